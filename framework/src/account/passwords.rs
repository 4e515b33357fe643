//! Owns what a password costs: argon2id, how many hashes run at once, how many wait.
//! Leaves whose password it is, and what a wrong one means, to `center`.

use std::{
    fmt, io,
    num::NonZero,
    sync::{Arc, Mutex, PoisonError},
};

use argon2::{
    Algorithm, Argon2, Block, Params, Version,
    password_hash::{self, phc},
};
use tokio::{
    runtime::{Builder, Runtime},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinHandle,
    time::timeout,
};

use crate::{
    limits::{PASSWORD_WAIT_MAX, PASSWORDS_WAITING_MAX},
    store::PasswordHash,
    wire::Code,
};

/// What an unknown name's password is compared with, so that the time does not tell. Made with
/// the parameters of [`Argon2::default`]; a test holds them equal.
const NOBODY: &str = "$argon2id$v=19$m=19456,t=2,p=1$YmFzdGlkZS1ub2JvZHkhIQ\
                      $AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// The one place where passwords are hashed. A clone shares the turns.
#[derive(Clone)]
pub(super) struct Passwords {
    threads: Arc<Threads>,
    /// One for each hash that may run, 19 MiB and 15 ms each: one a core.
    turns: Arc<Semaphore>,
    /// One for each turn and each place in the waiting line.
    line: Arc<Semaphore>,
    memory: Memory,
}

/// Threads that hash and do nothing else, at the lowest priority: a login flood takes what the
/// games leave, and no more.
struct Threads(Option<Runtime>);

/// The largest number, which is the lowest priority.
const NICE: i32 = 19;

/// What hashes are computed in, 19 MiB each; at most one a turn. Handed from hash to hash: freed,
/// the allocator kept one for every thread that had hashed: 170 MB after 60 registrations at once.
/// Std mutex: held to take one out or to put it back.
type Memory = Arc<Mutex<Vec<Vec<Block>>>>;

/// The right to hash once. While it is held, nobody else has it.
pub(super) struct Turn {
    threads: Arc<Threads>,
    memory: Memory,
    held: (OwnedSemaphorePermit, OwnedSemaphorePermit),
}

impl Passwords {
    /// # Errors
    /// When the operating system refuses what threads need.
    pub(super) fn new() -> io::Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        Self::with(cores, PASSWORDS_WAITING_MAX)
    }

    fn with(turns: usize, waiting_max: usize) -> io::Result<Self> {
        Ok(Self {
            threads: Arc::new(Threads::start(turns)?),
            turns: Arc::new(Semaphore::new(turns)),
            line: Arc::new(Semaphore::new(turns + waiting_max)),
            memory: Memory::default(),
        })
    }

    /// Waits for a turn; [`Code::BUSY`] when the line is full, or too slow.
    pub(super) async fn turn(&self) -> Result<Turn, Code> {
        let place = Arc::clone(&self.line).try_acquire_owned().map_err(|_| Code::BUSY)?;
        // Later the answer would say that nobody knows what became of it.
        let turn = timeout(PASSWORD_WAIT_MAX, Arc::clone(&self.turns).acquire_owned()).await;
        let turn = turn.map_err(|_| Code::BUSY)?.expect("the semaphore is never closed");
        let (threads, memory) = (self.threads.clone(), self.memory.clone());
        Ok(Turn { threads, memory, held: (turn, place) })
    }
}

impl Threads {
    fn start(count: usize) -> io::Result<Self> {
        // Of a runtime, for its blocking threads alone: nothing else is ever run on it.
        let runtime = Builder::new_current_thread()
            .thread_name("password")
            .max_blocking_threads(count)
            .on_thread_start(|| {
                if let Err(error) = rustix::process::nice(NICE) {
                    tracing::warn!(target: "account", %error, "passwords are hashed at the priority of games");
                }
            })
            .build()?;
        Ok(Self(Some(runtime)))
    }

    fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        let runtime = self.0.as_ref().expect("there until dropped");
        runtime.handle().spawn_blocking(work)
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        // To wait for what is being hashed would block whoever drops this.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl PasswordHash {
    /// Whether a hash of today costs whoever steals it more. One that cannot be read is none that
    /// a password was right for.
    pub(super) fn is_weaker(&self) -> bool {
        let kept = phc::PasswordHash::new(&self.0).ok();
        let kept = kept.and_then(|kept| Some((kept.algorithm, Params::try_from(&kept).ok()?)));
        let today = Argon2::default();
        kept.is_some_and(|(algorithm, kept)| {
            algorithm != Algorithm::default().ident()
                || kept.m_cost() < today.params().m_cost()
                || kept.t_cost() < today.params().t_cost()
                || kept.p_cost() < today.params().p_cost()
        })
    }
}

impl Turn {
    /// Hashes a new password with a salt of its own.
    pub(super) async fn hash(self, password: String) -> Result<PasswordHash, Code> {
        let hashed = self.run(move |blocks| hash(password.as_bytes(), blocks)).await?.0;
        let hash: phc::PasswordHash = hashed.map_err(|error| {
            tracing::error!(target: "account", %error, "a password could not be hashed");
            Code::INTERNAL
        })?;
        Ok(PasswordHash(hash.to_string()))
    }

    /// Whether the password is the one of the hash; against `None` it takes as long, and is not.
    /// Gives the turn back with the answer: whoever counts failures counts before the next try.
    pub(super) async fn verify(
        self,
        password: String,
        hash: Option<PasswordHash>,
    ) -> Result<(bool, Self), Code> {
        let known = hash.is_some();
        let (verified, turn) = self
            .run(move |blocks| {
                let hash = hash.as_ref().map_or(NOBODY, |hash| hash.0.as_str());
                verify(password.as_bytes(), hash, blocks)
            })
            .await?;
        match verified {
            Ok(()) => Ok((known, turn)),
            Err(password_hash::Error::PasswordInvalid) => Ok((false, turn)),
            Err(error) => {
                tracing::error!(target: "account", %error, "a kept password hash is damaged");
                Ok((false, turn))
            }
        }
    }

    /// The turn goes into the thread: a caller that stops waiting does not free it early.
    async fn run<T: Send + 'static>(
        self,
        work: impl FnOnce(&mut Vec<Block>) -> T + Send + 'static,
    ) -> Result<(T, Self), Code> {
        let Self { threads, memory, held } = self;
        let blocking = move || {
            let free = || memory.lock().unwrap_or_else(PoisonError::into_inner);
            let mut blocks = free().pop().unwrap_or_default();
            let done = work(&mut blocks);
            free().push(blocks);
            (done, memory, held)
        };
        let done = threads.run(blocking).await;
        let (done, memory, held) = done.map_err(|_| Code::INTERNAL)?;
        Ok((done, Self { threads, memory, held }))
    }
}

fn hash(password: &[u8], blocks: &mut Vec<Block>) -> password_hash::Result<phc::PasswordHash> {
    let (argon2, salt) = (Argon2::default(), phc::Salt::generate());
    let output = compute(&argon2, password, &salt, Params::DEFAULT_OUTPUT_LEN, blocks)?;
    Ok(phc::PasswordHash {
        algorithm: Algorithm::default().ident(),
        version: Some(Version::default().into()),
        params: phc::ParamsString::try_from(argon2.params())?,
        salt: Some(salt),
        hash: Some(output),
    })
}

fn verify(password: &[u8], hash: &str, blocks: &mut Vec<Block>) -> password_hash::Result<()> {
    use password_hash::Error;
    let hash = phc::PasswordHash::new(hash).map_err(|_| Error::EncodingInvalid)?;
    let (Some(salt), Some(kept)) = (hash.salt, hash.hash) else {
        return Err(Error::EncodingInvalid);
    };
    let version = hash.version.map(Version::try_from).transpose()?.unwrap_or_default();
    let algorithm = Algorithm::try_from(hash.algorithm.as_str())?;
    let argon2 = Argon2::new(algorithm, version, Params::try_from(&hash)?);
    // Outputs compare in constant time.
    match compute(&argon2, password, &salt, kept.len(), blocks)? == kept {
        true => Ok(()),
        false => Err(Error::PasswordInvalid),
    }
}

fn compute(
    argon2: &Argon2<'_>,
    password: &[u8],
    salt: &phc::Salt,
    output_bytes: usize,
    blocks: &mut Vec<Block>,
) -> password_hash::Result<phc::Output> {
    blocks.resize(argon2.params().block_count(), Block::default());
    let mut buffer = [0; phc::Output::MAX_LENGTH];
    let output = buffer.get_mut(..output_bytes).ok_or(password_hash::Error::OutputSize)?;
    argon2.hash_password_into_with_memory(password, salt, output, blocks.as_mut_slice())?;
    Ok(phc::Output::new(output)?)
}

impl fmt::Debug for Passwords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { threads: _, turns, line, memory: _ } = self;
        f.debug_struct("Passwords")
            .field("turns_free", &turns.available_permits())
            .field("line_free", &line.available_permits())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn hash(passwords: &Passwords, password: &str) -> PasswordHash {
        passwords.turn().await.unwrap().hash(password.to_owned()).await.unwrap()
    }

    async fn verify(passwords: &Passwords, password: &str, hash: Option<PasswordHash>) -> bool {
        let turn = passwords.turn().await.unwrap();
        turn.verify(password.to_owned(), hash).await.unwrap().0
    }

    #[tokio::test]
    async fn only_the_right_password_is_right_and_salts_differ() {
        let passwords = Passwords::new().unwrap();
        let (a, b) = (hash(&passwords, "密码 ✓ pass").await, hash(&passwords, "密码 ✓ pass").await);
        assert!(a != b && a.0.starts_with("$argon2id$"));
        assert!(verify(&passwords, "密码 ✓ pass", Some(a.clone())).await);
        assert!(!verify(&passwords, "密码 ✓ pasS", Some(a)).await);
        assert!(!verify(&passwords, "x", Some(PasswordHash("damaged".to_owned()))).await);
    }

    /// The crate's own way of checking agrees with ours, which only hands the memory on.
    #[tokio::test]
    async fn a_hash_of_ours_is_one_that_every_argon2_understands() {
        use argon2::{PasswordHasher as _, PasswordVerifier as _};
        let passwords = Passwords::new().unwrap();
        let ours = hash(&passwords, "secret").await;
        Argon2::default().verify_password(b"secret", ours.0.as_str()).unwrap();
        assert!(Argon2::default().verify_password(b"Secret", ours.0.as_str()).is_err());
        let theirs = Argon2::default().hash_password(b"secret").unwrap().to_string();
        assert!(verify(&passwords, "secret", Some(PasswordHash(theirs.clone()))).await);
        assert!(!verify(&passwords, "Secret", Some(PasswordHash(theirs))).await);
        assert_eq!(passwords.memory.lock().unwrap().len(), 1, "one block serves them all");
    }

    #[tokio::test]
    async fn nobody_costs_as_much_as_somebody_and_no_password_is_theirs() {
        let passwords = Passwords::new().unwrap();
        assert!(!verify(&passwords, "", None).await);
        let somebody = hash(&passwords, "secret").await;
        let somebody = phc::PasswordHash::new(&somebody.0).unwrap();
        let nobody = phc::PasswordHash::new(NOBODY).unwrap();
        assert_eq!((nobody.algorithm, nobody.version), (somebody.algorithm, somebody.version));
        assert_eq!(nobody.params, somebody.params);
        let length = |hash: &phc::PasswordHash| hash.hash.unwrap().len();
        assert_eq!(length(&nobody), length(&somebody));
    }

    #[tokio::test]
    async fn a_hash_with_lower_parameters_is_weaker_and_one_of_today_is_not() {
        use argon2::PasswordHasher as _;
        let passwords = Passwords::new().unwrap();
        assert!(!hash(&passwords, "secret").await.is_weaker());
        for (algorithm, m, t, weaker) in [
            (Algorithm::Argon2id, 8 * 1024, 2, true),
            (Algorithm::Argon2id, 19_456, 1, true),
            (Algorithm::Argon2i, 19_456, 2, true),
            (Algorithm::Argon2id, 32_768, 3, false),
        ] {
            let params = Params::new(m, t, 1, None).unwrap();
            let made = Argon2::new(algorithm, Version::V0x13, params).hash_password(b"secret");
            let made = PasswordHash(made.unwrap().to_string());
            assert_eq!(made.is_weaker(), weaker, "{}", made.0);
            assert!(verify(&passwords, "secret", Some(made)).await);
        }
        assert!(!PasswordHash("damaged".to_owned()).is_weaker());
    }

    #[tokio::test]
    async fn a_full_line_is_told_to_come_back() {
        let passwords = Passwords::with(1, 1).unwrap();
        let held = passwords.turn().await.unwrap();
        let waiting = passwords.clone();
        let waiting =
            tokio::runtime::Handle::current().spawn(async move { waiting.turn().await.map(drop) });
        tokio::task::yield_now().await;
        assert_eq!(passwords.turn().await.err(), Some(Code::BUSY));
        drop(held);
        waiting.await.unwrap().unwrap();
        assert!(passwords.turn().await.is_ok(), "the line is free again");
    }

    #[tokio::test]
    async fn a_caller_that_goes_away_frees_its_turn_when_the_hash_is_done() {
        let passwords = Passwords::with(1, 0).unwrap();
        let gone = passwords.turn().await.unwrap().hash("secret".to_owned());
        drop(timeout(std::time::Duration::from_millis(1), gone).await);
        for _ in 0..500 {
            if passwords.turn().await.is_ok() {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("the turn was never freed: {passwords:?}");
    }
}
