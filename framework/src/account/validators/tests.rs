//! What each validator lets in and what not, whoever asks and however often.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    runtime::Handle,
};

use super::{
    super::{refused::Refused, world::World},
    login::Known,
    *,
};
use crate::{
    clock::Clock,
    config::{Secret, ValidatorSettings},
    store::Cache,
    wire::Code,
};

/// The second at which [`World`] stands.
const NOW: i64 = 1_000;

const OPERATORS: &str = "a-secret-of-the-operators-of-this-test";

fn dev() -> ProofSettings {
    let admin_secret = Some(Secret(OPERATORS.to_owned()));
    ProofSettings { dev: true, admin_secret, ..ProofSettings::default() }
}

/// Outside `dev`, with these settings.
fn served(settings: &[(&str, &str, &str)]) -> ProofSettings {
    let mut of: BTreeMap<String, BTreeMap<String, Secret>> = BTreeMap::new();
    for (name, key, value) in settings {
        let of = of.entry((*name).to_owned()).or_default();
        of.insert((*key).to_owned(), Secret((*value).to_owned()));
    }
    ProofSettings { settings: ValidatorSettings(of), ..ProofSettings::default() }
}

fn claim(openid: &str) -> Claim {
    Claim { openid: openid.to_owned(), ip: Some("10.0.0.1".to_owned()), ..Claim::default() }
}

fn signed_claim(openid: &str, auth: Fields) -> Claim {
    Claim { auth: Some(auth), ..claim(openid) }
}

async fn login(w: &World, claim: Claim) -> Result<Known, Refused> {
    w.center.login(claim).await
}

async fn id(w: &World, claim: Claim) -> i64 {
    login(w, claim).await.unwrap().signed.account.id
}

async fn refused(w: &World, claim: Claim) -> Refusal {
    match login(w, claim).await {
        Ok(_) => panic!("not refused"),
        Err(refused) => refused.refusal,
    }
}

/// What the platform 360 says of user 7, not signed yet.
fn of_360(nonce: &str) -> Fields {
    let fields = Fields::new().with("t", NOW).with("nonce", nonce).with("plat_user_id", "7");
    fields.with("nickname", "Anna").with("avatar", "0").with("is_tourist", 0)
}

/// What `official` and `admin` sign.
fn own(of: &str, nonce: &str) -> Fields {
    Fields::new().with("id", of).with("nonce", nonce).with("t", NOW)
}

const SECRET_360: &str = "dev-secret-of-360";

#[tokio::test]
async fn official_knows_passwords_devices_and_its_own_signatures() {
    let w = World::proving(dev()).await;
    let anna = w.registry("anna", "secret1").await.unwrap().account_id.unwrap();
    let guest = w.guest("phone").await.unwrap().account_id.unwrap();
    let with =
        |openkey: &str| Claim { openkey: Some(openkey.to_owned()), ..claim("official.anna") };
    assert_eq!(id(&w, with("secret1")).await, anna);
    assert_eq!(id(&w, claim("official.phone")).await, guest);
    let ask = Fields::new().with("id", "official.phone");
    let auth = w.center.signature("/auth.html", ask, None).await.unwrap();
    assert_eq!(id(&w, signed_claim("official.phone", auth)).await, guest);
    let known = login(&w, with("secret1")).await.unwrap();
    assert_eq!((known.name.as_str(), known.addr.as_deref()), ("anna", Some("127.0.0.1:3017")));
    // A signature for the name of an account is not that account: a guest is all it proves.
    let auth = w.center.signature("/auth.html", Fields::new().with("id", "anna"), None).await;
    assert_ne!(id(&w, signed_claim("official.anna", auth.unwrap())).await, anna);
    for wrong in ["secret2", "x"] {
        assert_eq!(refused(&w, with(wrong)).await.code, Code::WRONG_CREDENTIALS);
    }
}

#[tokio::test]
async fn a_wrong_password_counts_once_whichever_way_it_comes() {
    let w = World::proving(dev()).await;
    w.registry("anna", "secret1").await.unwrap();
    let wrong = |ip: &str| Claim {
        openkey: Some("wrong".to_owned()),
        ip: Some(ip.to_owned()),
        ..claim("official.anna")
    };
    for n in 0..5 {
        let told = refused(&w, wrong(&format!("10.0.1.{n}"))).await;
        assert_eq!(told.code, Code::WRONG_CREDENTIALS, "{n}");
    }
    assert_eq!(w.auth_from("anna", "secret1", "10.0.2.1").await.err(), Some(Code::TOO_MANY_TRIES));
    assert_eq!(refused(&w, wrong("10.0.2.2")).await.code, Code::TOO_MANY_TRIES);
}

#[tokio::test]
async fn what_360_signed_lets_in_the_same_one_each_time() {
    let w = World::proving(dev()).await;
    let known = login(&w, signed_claim("360.7", of_360("a").signed(SECRET_360))).await.unwrap();
    assert_eq!(known.name, "Anna");
    let again = signed_claim("360.7", of_360("b").signed(SECRET_360));
    assert_eq!(id(&w, again).await, known.signed.account.id);
}

#[tokio::test]
async fn a_signature_that_is_wrong_old_used_or_somebody_elses_is_refused() {
    let good = of_360("a").signed(SECRET_360);
    for (openid, auth, why) in [
        ("360.7", good.clone(), "nonce"),
        ("360.7", of_360("b").signed("another secret"), "wrong"),
        ("360.7", of_360("b").signed(SECRET_360).with("nickname", "Bert"), "wrong"),
        ("360.7", of_360("b").with("sign", "0"), "wrong"),
        ("360.8", of_360("b").signed(SECRET_360), "somebody else"),
        ("360.7", of_360("b").with("t", i64::MIN).signed(SECRET_360), "too old"),
        ("360.7", of_360("b").with("t", i64::MAX).signed(SECRET_360), "too old"),
    ] {
        let w = World::proving(dev()).await;
        id(&w, signed_claim("360.7", good.clone())).await;
        let told = refused(&w, signed_claim(openid, auth)).await;
        assert_eq!(told.code, Code::WRONG_CREDENTIALS, "{told}");
        assert!(told.message.contains(why), "{told}");
    }
}

#[tokio::test]
async fn a_signature_is_good_for_300_seconds_to_either_side() {
    for (t, good) in [(-301, false), (-300, true), (300, true), (301, false)] {
        let w = World::proving(dev()).await;
        let auth = of_360("a").with("t", NOW + t).signed(SECRET_360);
        let code =
            login(&w, signed_claim("360.7", auth)).await.map(drop).map_err(|r| r.refusal.code);
        assert_eq!(code.is_ok(), good, "{t}: {code:?}");
    }
}

/// One from ten minutes ahead would be good again if its nonce were forgotten after five.
#[tokio::test]
async fn a_nonce_is_remembered_for_as_long_as_its_signature_is_good() {
    let w = World::proving(dev()).await;
    let auth = of_360("a").with("t", NOW + 300).signed(SECRET_360);
    id(&w, signed_claim("360.7", auth.clone())).await;
    w.clock.set((NOW + 600) * 1000);
    let told = refused(&w, signed_claim("360.7", auth)).await;
    assert!(told.message.contains("nonce"), "{told}");
}

#[tokio::test]
async fn another_node_and_a_restart_know_the_nonces_that_were_used() {
    let cache = Cache::memory();
    let w = World::proving(dev()).await.restart_with(dev(), cache.clone()).await;
    let auth = of_360("a").signed(SECRET_360);
    id(&w, signed_claim("360.7", auth.clone())).await;
    let w = w.restart_with(dev(), cache).await;
    assert!(refused(&w, signed_claim("360.7", auth)).await.message.contains("nonce"));
}

#[tokio::test]
async fn what_is_missing_or_too_much_is_named() {
    let w = World::proving(dev()).await;
    let part =
        |names: &[&str]| names.iter().fold(Fields::new(), |fields, name| fields.with(name, "7"));
    for (openid, auth, named) in [
        ("360.7", None, "`auth`"),
        ("360.7", Some(part(&["t", "nonce", "sign"])), "`plat_user_id`"),
        ("360.7", Some(part(&["t", "plat_user_id", "sign"])), "`nonce`"),
        ("360.7", Some(part(&["nonce", "plat_user_id", "sign"])), "`t`"),
        ("360.7", Some(part(&["nonce", "plat_user_id", "t"])), "`sign`"),
        ("360.7", Some(of_360("a").with("u", "x").signed(SECRET_360)), "`u`"),
        ("official.7", Some(part(&["t", "nonce", "sign"])), "`id`"),
        ("admin.7", None, "`auth`"),
        ("admin.7", Some(part(&["t", "id", "sign"])), "`nonce`"),
        ("tx.7", None, "`openkey`"),
        ("nothing", None, "`openid`"),
        ("nobodys.7", None, "`nobodys`"),
        ("360.", None, "`openid`"),
        ("360.a\nb", None, "`openid`"),
    ] {
        let told = refused(&w, Claim { auth, ..claim(openid) }).await;
        assert_eq!(told.code, Code::PARAMETER, "{openid}: {told}");
        assert!(told.message.contains(named), "{openid}: {told}");
    }
    let no_place = Claim { openkey: Some("key".to_owned()), ..claim("tx.7") };
    assert!(refused(&w, no_place).await.message.contains("`pf`"));
}

/// The platform signs `nickname` and all that follows without a mark between: who may choose the
/// one could write the others into it, if what is left over had a name to hide under.
#[tokio::test]
async fn nobody_signs_for_another_with_a_nickname_that_reads_like_fields() {
    let w = World::proving(dev()).await;
    let nickname = "xnonce1plat_user_id8t1000u";
    let mine = of_360("a").with("nickname", nickname);
    let forged = Fields::new().with("t", NOW).with("nonce", "1").with("plat_user_id", "8");
    let forged = forged.with("nickname", "x").with("avatar", "0").with("is_tourist", 0);
    let forged = forged.with("u", "noncea".to_owned() + "plat_user_id7t1000");
    assert_eq!(mine.signature("s"), forged.signature("s"), "the trick works on the signature");
    let told = refused(&w, signed_claim("360.8", forged.signed(SECRET_360))).await;
    assert!(told.code == Code::PARAMETER && told.message.contains("`u`"), "{told}");
}

#[tokio::test]
async fn an_administrator_gets_a_token_that_is_no_players() {
    let w = World::proving(dev()).await;
    let sign = |id: &str, nonce: &str| signed_claim("admin.root", own(id, nonce).signed(OPERATORS));
    let known = login(&w, sign("root", "a")).await.unwrap();
    assert_eq!((known.addr, known.signed.claims.role.as_deref()), (None, Some("admin")));
    let verifier = super::super::TokenVerifier::new(&w.center.jwks(), "test");
    assert!(verifier.verify(&known.signed.token, 1_000_000).is_err());
    assert!(verifier.verify_admin(&known.signed.token, 1_000_000).is_ok());
    assert_eq!(known.signed.refresh_token, None, "the secret is shown each time");
    let (token, sid) = (Some(known.signed.token.clone()), known.signed.claims.sid.clone());
    let req = crate::msg::sign_out::Req { token, refresh_token: None };
    w.center.clone().sign_out(req).await.expect("an administrator may sign out");
    let marks = w.center.0.sessions.marks();
    assert!(marks.check(known.signed.account.id, &sid).await.is_err());
    assert_eq!(w.center.by_token(&known.signed.token).await.unwrap_err().code, Code::TOKEN_INVALID);
    for (claim, why) in [
        (sign("root", "a"), "nonce"),
        (sign("other", "b"), "somebody else"),
        (signed_claim("admin.root", own("root", "c").signed(SECRET_360)), "wrong"),
    ] {
        let told = refused(&w, claim).await;
        assert!(told.code == Code::WRONG_CREDENTIALS && told.message.contains(why), "{told}");
    }
    let page = w.center.signature("/authAdmin.html", Fields::new().with("id", "root"), None).await;
    assert!(page.is_err(), "nobody is given such a signature");
}

#[tokio::test]
async fn outside_dev_a_validator_without_a_secret_is_off_and_says_so() {
    let w = World::proving(served(&[])).await;
    for (openid, auth, named) in [
        ("360.7", of_360("a").signed(SECRET_360), "validators.360.secret"),
        ("admin.root", own("root", "a").signed(OPERATORS), "admin.secret"),
    ] {
        let told = refused(&w, signed_claim(openid, auth)).await;
        assert!(told.code == Code::NOT_READY && told.message.contains(named), "{told}");
    }
    let key = |key: &str| Some(key.to_owned());
    let tx = Claim { openkey: key("k"), pf: key("p"), ..claim("tx.7") };
    assert!(refused(&w, tx).await.message.contains("validators.tx.endpoint"));
    // Its own secret every cluster has.
    let auth = w.center.signature("/auth.html", Fields::new().with("id", "7"), None).await.unwrap();
    id(&w, signed_claim("official.7", auth)).await;

    let w = World::proving(served(&[("360", "secret", "platform's")])).await;
    id(&w, signed_claim("360.7", of_360("a").signed("platform's"))).await;
    let ask = || Fields::new().with("id", "7");
    let told = w.center.signature("/auth360.html", ask(), None).await.unwrap_err();
    let told = told.refusal;
    assert!(told.code == Code::BANNED && told.message.contains("validators.360.page"), "{told}");
    let open = [("360", "secret", "platform's"), ("360", "page", "open")];
    let w = World::proving(served(&open)).await;
    let auth = w.center.signature("/auth360.html", ask(), None).await.unwrap();
    id(&w, signed_claim("360.7", auth)).await;
}

#[tokio::test]
async fn five_refused_proofs_close_the_door_for_an_address_and_for_nobody_else() {
    let w = World::proving(dev()).await;
    let from = |ip: &str, openid: &str, secret: &str| Claim {
        ip: Some(ip.to_owned()),
        ..signed_claim(openid, of_360("a").signed(secret))
    };
    for n in 0..5 {
        let told = refused(&w, from(&format!("10.0.{n}.1"), "360.7", "wrong")).await;
        assert_eq!(told.code, Code::WRONG_CREDENTIALS);
    }
    // A signature cannot be guessed, so that nobody is locked out by who tries.
    id(&w, from("10.9.9.9", "360.7", SECRET_360)).await;
    for n in 0..5 {
        refused(&w, from("10.2.2.2", &format!("360.1{n}"), "wrong")).await;
    }
    assert_eq!(w.auth_from("anna", "x", "10.2.2.2").await.err(), Some(Code::TOO_MANY_TRIES));
    w.clock.set(1_000_000 + 299_999);
    id(&w, from("10.3.3.3", "360.8", SECRET_360).with_user("8")).await;
}

impl Claim {
    fn with_user(mut self, user: &str) -> Self {
        self.auth = Some(of_360("z").with("plat_user_id", user).signed(SECRET_360));
        self
    }
}

/// Counts how often it was asked; asks nothing of anybody.
struct Anyone(Arc<AtomicUsize>);

impl Validator for Anyone {
    async fn check(&self, proof: &Proof, ctx: &ValidatorCtx) -> Result<Identity, Refusal> {
        self.0.fetch_add(1, Ordering::Relaxed);
        assert!(proof.id != "panics", "asked to");
        match proof.id.as_str() {
            "hangs" => std::future::pending().await,
            "nobody" => Ok(Identity::new("")),
            "ok" => Err(Code::OK.into()),
            "away" => Err(ctx.unanswered("nobody is at home")),
            id => Ok(Identity::new(id).nickname("a\nb".to_owned() + &"c".repeat(100))),
        }
    }

    fn pages(&self) -> Vec<&'static str> {
        vec!["/auth/any.html"]
    }
}

fn with_anyone() -> ProofSettings {
    let mut validators = Validators::default();
    validators.add("any", Anyone(Arc::default()));
    ProofSettings { validators, ..dev() }
}

#[tokio::test]
async fn a_validator_that_never_answers_is_given_up() {
    let w = World::proving(with_anyone()).await;
    assert_eq!(refused(&w, claim("any.hangs")).await.code, Code::DEADLINE);
}

#[tokio::test]
async fn a_studios_validator_has_accounts_of_its_own_and_hurts_nobody() {
    let w = World::proving(with_anyone()).await;
    let known = login(&w, claim("any.7")).await.unwrap();
    assert_eq!((known.name.len(), known.name.contains('\n')), (32, false));
    let account = known.signed.account.id;
    assert_eq!(id(&w, claim("any.7")).await, account);
    let other = signed_claim("360.7", of_360("a").signed(SECRET_360));
    assert_ne!(id(&w, other).await, account, "7 of another validator is somebody else");
    for (openid, code) in [
        ("any.panics", Code::INTERNAL),
        ("any.nobody", Code::PARAMETER),
        ("any.ok", Code::INTERNAL),
    ] {
        assert_eq!(refused(&w, claim(openid)).await.code, code, "{openid}");
    }
    for _ in 0..9 {
        let told = refused(&w, claim("any.away")).await;
        assert_eq!(told.code, Code::WRONG_CREDENTIALS, "nobody's fault is not counted");
    }
    let unsigned = w.center.signature("/auth/any.html", Fields::new(), None).await;
    assert_eq!(unsigned.unwrap_err().refusal.code, Code::PARAMETER);
}

#[tokio::test]
async fn of_many_that_are_one_person_at_once_one_account_is_made() {
    let w = Arc::new(World::proving(with_anyone()).await);
    let racers = (0..20).map(|_| {
        let center = w.center.clone();
        Handle::current().spawn(async move {
            center.login(claim("any.new")).await.map(|known| known.signed.account.id)
        })
    });
    let mut ids = Vec::new();
    for racer in racers.collect::<Vec<_>>() {
        ids.push(racer.await.unwrap().unwrap());
    }
    ids.dedup();
    assert_eq!(ids.len(), 1, "{ids:?}");
}

#[tokio::test]
async fn without_a_gate_a_player_is_told_so_and_nothing_is_made() {
    let w = World::proving(with_anyone()).await;
    w.gate_lives.store(false, Ordering::Relaxed);
    assert_eq!(refused(&w, claim("any.7")).await.code, Code::NOT_READY);
    assert_eq!(w.store.account_by_identity("any", "7").await, Ok(None));
}

#[test]
fn a_name_or_page_that_is_taken_or_odd_is_refused_with_a_sentence() {
    struct At(&'static str);
    impl Validator for At {
        async fn check(&self, _: &Proof, ctx: &ValidatorCtx) -> Result<Identity, Refusal> {
            Err(ctx.refused("never"))
        }
        fn pages(&self) -> Vec<&'static str> {
            vec![self.0]
        }
    }
    for (name, page, said) in [
        ("official", "/new.html", "`official` already"),
        ("a.b", "/new.html", "`a.b` cannot be the name"),
        ("", "/new.html", "`` cannot be the name"),
        ("new", "/auth.html", "`/auth.html` of the validator `new` is taken"),
        ("new", "/v1/account/auth", "`/v1/account/auth` of the validator `new` is taken"),
        ("new", "/", "`/` of the validator `new` is no path"),
        ("new", "new.html", "no path"),
        ("new", "/{any}", "no path"),
    ] {
        let add = move || Validators::default().add(name, At(page));
        let panicked = std::panic::catch_unwind(add).unwrap_err();
        let text = panicked.downcast_ref::<String>().unwrap();
        assert!(text.contains(said), "{text}");
    }
}

#[tokio::test]
async fn settings_of_a_validator_that_is_not_there_are_an_error() {
    let w = World::new().await;
    let proofs = Proofs::prepare(served(&[("wx", "secret", "hidden")]), &w.store).await.unwrap();
    let said = proofs.unwrap_err().to_string();
    assert_eq!(
        said,
        "validators.wx: there is no validator of this name; there are: 360, admin, official, tx"
    );
}

#[tokio::test]
async fn nothing_that_is_secret_is_shown() {
    let w = World::proving(served(&[("360", "secret", "hidden")])).await;
    let auth = of_360("hidden").signed("hidden");
    let hidden = || Some("hidden".to_owned());
    let proof = Proof {
        id: "7".to_owned(),
        openkey: hidden(),
        auth: Some(auth),
        pf: None,
        token: hidden(),
        app: None,
    };
    let ctx = ValidatorCtx::new(w.center.clone(), "360", None);
    let settings = served(&[("360", "secret", "hidden")]);
    for shown in [
        format!("{proof:?}"),
        format!("{ctx:?}"),
        format!("{settings:?}"),
        format!("{:?}", w.center),
    ] {
        assert!(!shown.contains("hidden"), "{shown}");
    }
}

/// A platform that answers each connection with these bytes, and then with nothing.
async fn platform(answer: &'static str, endless: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/check?appid=5", listener.local_addr().unwrap());
    let serve = async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            let mut asked = vec![0; 4096];
            let n = client.read(&mut asked).await.unwrap();
            let asked = String::from_utf8_lossy(&asked[..n]).into_owned();
            let wanted = "GET /check?appid=5&openid=7&openkey=the+key&pf=qzone ";
            assert!(asked.starts_with(wanted), "{asked}");
            client.write_all(answer.as_bytes()).await.unwrap();
            while endless && client.write_all(&[b' '; 1024]).await.is_ok() {}
        }
    };
    Handle::current().spawn(serve);
    url
}

fn tx() -> Claim {
    let said = |text: &str| Some(text.to_owned());
    Claim { openkey: said("the key"), pf: said("qzone"), ..claim("tx.7") }
}

#[tokio::test]
async fn tx_lets_in_whom_the_platform_knows() {
    for answer in [
        "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{\"ret\":0,\"nickname\":\"a\"}",
        "HTTP/1.1 200 OK\r\ncontent-length: 23\r\n\r\n{\"code\":0,\"openid\":\"7\"}",
    ] {
        let url = platform(answer, false).await;
        let w = World::proving(served(&[("tx", "endpoint", &url)])).await;
        let first = id(&w, tx()).await;
        assert_eq!(id(&w, tx()).await, first);
    }
}

#[tokio::test]
async fn tx_refuses_whatever_else_a_platform_says() {
    for (answer, endless) in [
        ("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{\"ret\":1002}", false),
        ("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{\"ret\":\"0\"}", false),
        ("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{\"ret\":0,\"code\":1}", false),
        ("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{\"ret\":0,\"openid\":\"8\"}", false),
        ("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{\"ret\":0,\"openid\":7}", false),
        ("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{}", false),
        ("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n[0]", false),
        ("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nyes", false),
        ("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n", false),
        ("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{\"ret\":0}", true),
        ("HTTP/1.1 201 Created\r\nconnection: close\r\n\r\n{\"ret\":0}", false),
        ("HTTP/1.1 403 Forbidden\r\nconnection: close\r\n\r\n{\"ret\":0}", false),
        ("HTTP/1.1 500 Oh\r\nconnection: close\r\n\r\n{\"ret\":0}", false),
        ("HTTP/1.1 302 Found\r\nlocation: /yes\r\ncontent-length: 9\r\n\r\n{\"ret\":0}", false),
        ("nonsense\r\n\r\n", false),
    ] {
        let url = platform(answer, endless).await;
        let w = World::proving(served(&[("tx", "endpoint", &url)])).await;
        let told = refused(&w, tx()).await;
        assert_eq!(told.code, Code::WRONG_CREDENTIALS, "{answer}: {told}");
        assert!(!told.message.contains("the key"), "{told}");
        assert_eq!(w.store.account_by_identity("tx", "7").await, Ok(None));
    }
}

#[tokio::test]
async fn tx_refuses_when_the_platform_is_away_or_silent_and_counts_it_for_nobody() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = format!("http://{}/", listener.local_addr().unwrap());
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let away = format!("http://{}/", gone.local_addr().unwrap());
    drop(gone);
    for url in [away, silent] {
        let w = World::proving(served(&[("tx", "endpoint", &url)])).await;
        // Time goes on by itself while nobody has anything to do.
        tokio::time::pause();
        for _ in 0..6 {
            let told = refused(&w, tx()).await;
            assert_eq!(told.code, Code::WRONG_CREDENTIALS);
            assert!(told.message.contains("did not answer"), "{told}");
        }
        tokio::time::resume();
    }
}

#[tokio::test]
async fn tx_asks_no_more_at_once_than_it_may() {
    let url = platform("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{\"ret\":0}", false).await;
    let mut validators = Validators::default();
    validators.add("none", tx::Tx::with(0));
    validators.add("one", tx::Tx::with(1));
    let settings = served(&[("none", "endpoint", &url), ("one", "endpoint", &url)]);
    let w = World::proving(ProofSettings { validators, ..settings }).await;
    let from = |openid: &str| Claim { openid: openid.to_owned(), ..tx() };
    for _ in 0..6 {
        assert_eq!(refused(&w, from("none.7")).await.code, Code::BUSY);
        id(&w, from("one.7")).await;
    }
}

/// The clock is an argument: nothing here has read the machine's.
#[tokio::test]
async fn the_time_of_a_signature_is_that_of_the_clock() {
    let w = World::proving(dev()).await;
    let clock: &Clock = &w.clock;
    clock.set(77_777_999);
    let auth = w.center.signature("/auth.html", Fields::new().with("id", "7"), None).await.unwrap();
    assert_eq!(auth.number("t"), Ok(77_777));
}
