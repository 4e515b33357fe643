//! Owns the access token: a JWT signed with Ed25519, its claims, its keys. The cryptography is
//! ring's; the library only writes and reads the format.
//! Leaves to `center` who gets a token, and to whoever revokes it what `jti` and `sid` mean.

use std::{fmt, sync::Once, time::Duration};

use jsonwebtoken::{
    Algorithm, AlgorithmFamily, DecodingKey, EncodingKey, Header, Validation,
    crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils},
    errors::ErrorKind,
    jwk::AlgorithmParameters,
    signature,
};
use rand::{TryRngCore as _, rngs::OsRng};
use ring::{
    digest,
    rand::SystemRandom,
    signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey},
};
use serde::{Deserialize, Serialize};

use crate::{directory::Jwk, wire::Code};

/// A token of ours is some 500 bytes; longer ones are refused before they are decoded.
const TOKEN_BYTES_MAX: usize = 4096;

/// What a token says. The times are in seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claims {
    /// The account's id.
    pub(crate) sub: String,
    pub(crate) openid: String,
    pub(crate) iss: String,
    pub(crate) aud: String,
    pub(crate) exp: i64,
    pub(crate) iat: i64,
    /// This token, among all.
    pub(crate) jti: String,
    /// The sign-in it belongs to; a refreshed token keeps it.
    pub(crate) sid: String,
    /// The app that it was signed in for, where one was named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) app: Option<String>,
    /// `admin`: opens what operators do, and no gate. Absent: a player.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) role: Option<String>,
}

/// Whom a token is for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Subject<'a> {
    pub(crate) account_id: i64,
    pub(crate) openid: &'a str,
    pub(crate) app: Option<&'a str>,
    pub(crate) role: Option<&'a str>,
    /// The sign-in that goes on; `None`: a new one.
    pub(crate) sid: Option<&'a str>,
    /// How long it lives; `None`: as access tokens do.
    pub(crate) ttl: Option<Duration>,
}

/// Signs tokens for one cluster.
pub(crate) struct TokenIssuer {
    key: EncodingKey,
    jwk: Jwk,
    cluster: String,
    ttl: Duration,
}

/// Checks tokens of one cluster; needs no secret.
pub(crate) struct TokenVerifier {
    /// By `kid`; several while a key is being replaced.
    keys: Vec<(String, DecodingKey)>,
    validation: Validation,
}

/// Why a token is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TokenError {
    /// Not a token, or not one of this cluster's. Sign in.
    #[error("the token is not one of this cluster: sign in")]
    Invalid,
    /// It was ours. Sign in again.
    #[error("the token is too old: sign in again")]
    Expired,
}

impl From<TokenError> for Code {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::Invalid => Self::TOKEN_INVALID,
            TokenError::Expired => Self::TOKEN_EXPIRED,
        }
    }
}

/// The kept signing key is not an Ed25519 key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the signing key is not an Ed25519 key in PKCS#8")]
pub(crate) struct KeyError;

/// A new signing key, as PKCS#8.
pub(crate) fn new_signing_key() -> Vec<u8> {
    let key = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new());
    key.expect("the system has a source of randomness").as_ref().to_vec()
}

impl TokenIssuer {
    /// The `kid` is drawn from the public key, so that all who hold the key name it alike.
    pub(crate) fn new(pkcs8: &[u8], cluster: &str, ttl: Duration) -> Result<Self, KeyError> {
        install_ring();
        let pair = Ed25519KeyPair::from_pkcs8(pkcs8).map_err(|_| KeyError)?;
        Ok(Self {
            key: EncodingKey::from_ed_der(pkcs8),
            jwk: published(pair.public_key().as_ref())?,
            cluster: cluster.to_owned(),
            ttl,
        })
    }

    /// A token for an account that has just signed in, and what it says.
    pub(crate) fn issue(&self, subject: &Subject<'_>, now_ms: i64) -> (String, Claims) {
        let Subject { account_id, openid, app, role, sid, ttl } = subject;
        let iat = now_ms.div_euclid(1000);
        let claims = Claims {
            sub: account_id.to_string(),
            openid: (*openid).to_owned(),
            iss: issuer(&self.cluster),
            aud: self.cluster.clone(),
            exp: iat.saturating_add(seconds(ttl.unwrap_or(self.ttl))),
            iat,
            jti: random_id(),
            sid: sid.map_or_else(random_id, str::to_owned),
            app: app.map(str::to_owned),
            role: role.map(str::to_owned),
        };
        let mut header = Header::new(Algorithm::EdDSA);
        header.kid = Some(self.jwk.kid.clone());
        let token = jsonwebtoken::encode(&header, &claims, &self.key);
        (token.expect("the key was parsed in `new` and the claims are plain JSON"), claims)
    }

    pub(crate) fn jwk(&self) -> Jwk {
        self.jwk.clone()
    }

    /// How long a token lives, in seconds.
    pub(crate) fn ttl_secs(&self) -> i64 {
        seconds(self.ttl)
    }
}

impl TokenVerifier {
    /// Keys of another kind, which a later release may publish, are left out.
    pub(crate) fn new(jwks: &[Jwk], cluster: &str) -> Self {
        install_ring();
        let keys = jwks.iter().filter_map(|jwk| Some((jwk.kid.clone(), checking(jwk)?))).collect();
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_issuer(&[issuer(cluster)]);
        validation.set_audience(&[cluster]);
        validation.set_required_spec_claims(&["sub", "iss", "aud", "exp"]);
        // The library reads the machine's clock; `verify` compares with the one it is given.
        validation.validate_exp = false;
        validation.leeway = 0;
        Self { keys, validation }
    }

    /// What a player's token says, if it is ours and not too old. That of an administrator is
    /// [`TokenError::Invalid`] wherever players are served.
    pub(crate) fn verify(&self, token: &str, now_ms: i64) -> Result<Claims, TokenError> {
        self.verify_any(token, now_ms).and_then(|claims| match claims.role {
            None => Ok(claims),
            Some(_) => Err(TokenError::Invalid),
        })
    }

    /// What the token of an administrator says, if it is one.
    pub(crate) fn verify_admin(&self, token: &str, now_ms: i64) -> Result<Claims, TokenError> {
        self.verify_any(token, now_ms).and_then(|claims| match claims.role.as_deref() {
            Some("admin") => Ok(claims),
            Some(_) | None => Err(TokenError::Invalid),
        })
    }

    /// What a token of any role says, if it is ours and not too old.
    pub(crate) fn verify_any(&self, token: &str, now_ms: i64) -> Result<Claims, TokenError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::Invalid);
        }
        let header = jsonwebtoken::decode_header(token).map_err(|_| TokenError::Invalid)?;
        let kid = header.kid.ok_or(TokenError::Invalid)?;
        let (_, key) = self.keys.iter().find(|(of, _)| *of == kid).ok_or(TokenError::Invalid)?;
        let claims = jsonwebtoken::decode::<Claims>(token, key, &self.validation)
            .map_err(|_| TokenError::Invalid)?
            .claims;
        if claims.exp.saturating_mul(1000) <= now_ms {
            return Err(TokenError::Expired);
        }
        Ok(claims)
    }
}

/// Shows the public half of a key.
fn published(public: &[u8]) -> Result<Jwk, KeyError> {
    let key = DecodingKey::from_ed_der(public);
    let jwk = jsonwebtoken::jwk::Jwk::from_decoding_key(&key, None).map_err(|_| KeyError)?;
    let AlgorithmParameters::OctetKeyPair(params) = jwk.algorithm else { return Err(KeyError) };
    let hash = digest::digest(&digest::SHA256, params.x.as_bytes());
    Ok(Jwk {
        kty: "OKP".to_owned(),
        crv: "Ed25519".to_owned(),
        kid: hash.as_ref()[..8].iter().map(|byte| format!("{byte:02x}")).collect(),
        x: params.x,
        alg: "EdDSA".to_owned(),
        usage: "sig".to_owned(),
    })
}

/// The key that a published one checks with; `None` when it is of a kind that is not ours.
fn checking(jwk: &Jwk) -> Option<DecodingKey> {
    if (jwk.kty.as_str(), jwk.crv.as_str()) != ("OKP", "Ed25519") {
        return None;
    }
    DecodingKey::from_ed_components(&jwk.x).ok()
}

impl fmt::Debug for TokenIssuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key: _, jwk, cluster, ttl } = self;
        f.debug_struct("TokenIssuer")
            .field("kid", &jwk.kid)
            .field("cluster", cluster)
            .field("ttl", ttl)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for TokenVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { keys, validation: _ } = self;
        let kids: Vec<&str> = keys.iter().map(|(kid, _)| kid.as_str()).collect();
        f.debug_struct("TokenVerifier").field("kids", &kids).finish_non_exhaustive()
    }
}

fn seconds(ttl: Duration) -> i64 {
    i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
impl<'a> Subject<'a> {
    pub(crate) fn player(account_id: i64, openid: &'a str) -> Self {
        Self { account_id, openid, ..Self::default() }
    }
}

fn issuer(cluster: &str) -> String {
    format!("bastide/{cluster}")
}

/// 128 bits from the system, in hex.
pub(super) fn random_id() -> String {
    format!("{:032x}", u128::from_be_bytes(random()))
}

/// Bytes from the system: nobody guesses them.
pub(super) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    OsRng.try_fill_bytes(&mut bytes).expect("the system has a source of randomness");
    bytes
}

// === ring behind jsonwebtoken ===
// Its own providers bring a second TLS-sized library, or an rsa crate with an open advisory.

static RING: CryptoProvider = CryptoProvider {
    signer_factory: |algorithm, key| match (algorithm, key.family()) {
        (Algorithm::EdDSA, AlgorithmFamily::Ed) => {
            let pair = Ed25519KeyPair::from_pkcs8(key.as_bytes());
            Ok(Box::new(RingSigner(pair.map_err(|_| ErrorKind::InvalidEddsaKey)?)))
        }
        _ => Err(ErrorKind::InvalidAlgorithm.into()),
    },
    verifier_factory: |algorithm, key| match (algorithm, key.family()) {
        (Algorithm::EdDSA, AlgorithmFamily::Ed) => {
            let public = key.try_get_as_bytes()?.to_vec();
            Ok(Box::new(RingVerifier(UnparsedPublicKey::new(&ED25519, public))))
        }
        _ => Err(ErrorKind::InvalidAlgorithm.into()),
    },
    key_utils: KeyUtils::new_unimplemented(),
};

struct RingSigner(Ed25519KeyPair);

struct RingVerifier(UnparsedPublicKey<Vec<u8>>);

fn install_ring() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if RING.install_default().is_err() {
            // A studio's own code came first; if its provider cannot do EdDSA, signing fails.
            tracing::warn!(target: "account", "another token provider is installed in this process");
        }
    });
}

impl signature::Signer<Vec<u8>> for RingSigner {
    fn try_sign(&self, message: &[u8]) -> Result<Vec<u8>, signature::Error> {
        Ok(self.0.sign(message).as_ref().to_vec())
    }
}

impl JwtSigner for RingSigner {
    fn algorithm(&self) -> Algorithm {
        Algorithm::EdDSA
    }
}

impl signature::Verifier<Vec<u8>> for RingVerifier {
    fn verify(&self, message: &[u8], sig: &Vec<u8>) -> Result<(), signature::Error> {
        self.0.verify(message, sig).map_err(|_| signature::Error::new())
    }
}

impl JwtVerifier for RingVerifier {
    fn algorithm(&self) -> Algorithm {
        Algorithm::EdDSA
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TTL: Duration = Duration::from_secs(7200);
    const NOW: i64 = 1_700_000_000_999;

    fn pair() -> (TokenIssuer, TokenVerifier) {
        let issuer = TokenIssuer::new(&new_signing_key(), "test", TTL).unwrap();
        let verifier = TokenVerifier::new(&[issuer.jwk()], "test");
        (issuer, verifier)
    }

    #[test]
    fn a_token_says_what_was_asked_until_its_last_second() {
        let (issuer, verifier) = pair();
        let (token, claims) = issuer.issue(&Subject::player(10_001, "abc"), NOW);
        assert_eq!(verifier.verify(&token, NOW), Ok(claims.clone()));
        assert_eq!((claims.sub.as_str(), claims.openid.as_str()), ("10001", "abc"));
        assert_eq!((claims.iss.as_str(), claims.aud.as_str()), ("bastide/test", "test"));
        assert_eq!((claims.iat, claims.exp), (1_700_000_000, 1_700_007_200));
        assert_eq!(verifier.verify(&token, 1_700_007_199_999), Ok(claims.clone()));
        assert_eq!(verifier.verify(&token, 1_700_007_200_000), Err(TokenError::Expired));
        let (_, other) = issuer.issue(&Subject::player(10_001, "abc"), NOW);
        assert!(other.jti != claims.jti && other.sid != claims.sid && claims.jti.len() == 32);
    }

    #[test]
    fn the_token_of_an_administrator_is_no_players_and_the_other_way_round() {
        let (issuer, verifier) = pair();
        let player = issuer.issue(&Subject::player(1, "a"), NOW).0;
        let with = |role| {
            let subject = Subject { role: Some(role), ..Subject::player(1, "a") };
            issuer.issue(&subject, NOW).0
        };
        assert_eq!(verifier.verify(&with("admin"), NOW), Err(TokenError::Invalid));
        assert!(verifier.verify_admin(&with("admin"), NOW).is_ok());
        for odd in [player, with("Admin"), with("")] {
            assert_eq!(verifier.verify_admin(&odd, NOW), Err(TokenError::Invalid));
        }
    }

    #[test]
    fn another_key_or_cluster_is_refused_even_under_our_kid() {
        let (issuer, verifier) = pair();
        let token = issuer.issue(&Subject::player(1, "a"), NOW).0;
        let (stranger, _) = pair();
        assert_eq!(
            verifier.verify(&stranger.issue(&Subject::player(1, "a"), NOW).0, NOW),
            Err(TokenError::Invalid)
        );
        let forged = TokenIssuer { jwk: issuer.jwk(), ..stranger };
        assert_eq!(
            verifier.verify(&forged.issue(&Subject::player(1, "a"), NOW).0, NOW),
            Err(TokenError::Invalid)
        );
        let elsewhere = TokenVerifier::new(&[issuer.jwk()], "prod");
        assert_eq!(elsewhere.verify(&token, NOW), Err(TokenError::Invalid));
        assert_eq!(TokenVerifier::new(&[], "test").verify(&token, NOW), Err(TokenError::Invalid));
    }

    #[test]
    fn the_kid_chooses_among_several_keys() {
        let ((old, _), (new, _)) = (pair(), pair());
        let odd = Jwk { kty: "RSA".to_owned(), ..old.jwk() };
        let short = Jwk { x: "AAAA".to_owned(), kid: "short".to_owned(), ..old.jwk() };
        let verifier = TokenVerifier::new(&[odd, short, new.jwk(), old.jwk()], "test");
        assert!(verifier.verify(&old.issue(&Subject::player(1, "a"), NOW).0, NOW).is_ok());
        assert!(verifier.verify(&new.issue(&Subject::player(1, "a"), NOW).0, NOW).is_ok());
    }

    #[test]
    fn another_algorithm_is_refused() {
        let (issuer, verifier) = pair();
        let (token, claims) = issuer.issue(&Subject::player(1, "a"), NOW);
        let tail = token.split_once('.').unwrap().1;
        // {"typ":"JWT","alg":"none"} and {"alg":"HS256"}
        for head in ["eyJ0eXAiOiJKV1QiLCJhbGciOiJub25lIn0", "eyJhbGciOiJIUzI1NiJ9"] {
            assert_eq!(verifier.verify(&format!("{head}.{tail}"), NOW), Err(TokenError::Invalid));
        }
        let mut header = Header::new(Algorithm::HS256);
        header.kid = Some(issuer.jwk().kid);
        let key = EncodingKey::from_secret(issuer.jwk().x.as_bytes());
        assert!(jsonwebtoken::encode(&header, &claims, &key).is_err(), "we only do EdDSA");
    }

    #[test]
    fn a_key_is_named_by_itself_and_never_shown() {
        let key = new_signing_key();
        let issuer = TokenIssuer::new(&key, "test", TTL).unwrap();
        assert_eq!(issuer.jwk(), TokenIssuer::new(&key, "other", TTL).unwrap().jwk());
        let text = serde_json::to_string(&issuer.jwk()).unwrap();
        assert!(text.starts_with(r#"{"kty":"OKP","crv":"Ed25519","kid":""#), "{text}");
        assert!(text.ends_with(r#""alg":"EdDSA","use":"sig"}"#), "{text}");
        assert_eq!(serde_json::from_str::<Jwk>(&text).unwrap(), issuer.jwk());
        assert_eq!((issuer.jwk().kid.len(), issuer.jwk().x.len()), (16, 43));
        let shown = format!("{issuer:?}");
        assert!(shown.contains("kid") && !shown.contains("key:"), "{shown}");
        assert_eq!(TokenIssuer::new(b"damaged", "test", TTL).err(), Some(KeyError));
    }

    #[test]
    fn a_long_token_is_refused_unread() {
        let (issuer, verifier) = pair();
        let (token, _) = issuer.issue(&Subject::player(1, &"a".repeat(TOKEN_BYTES_MAX)), NOW);
        assert_eq!(verifier.verify(&token, NOW), Err(TokenError::Invalid));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_token_with_any_byte_changed_is_refused(at in 0usize..10_000, to in 0u8..128) {
            let (issuer, verifier) = pair();
            let mut bytes = issuer.issue(&Subject::player(10_001, "abc"), NOW).0.into_bytes();
            let at = at % bytes.len();
            prop_assume!(bytes[at] != to);
            bytes[at] = to;
            let changed = String::from_utf8(bytes).unwrap();
            prop_assert_eq!(verifier.verify(&changed, NOW), Err(TokenError::Invalid));
        }

        #[test]
        fn any_string_is_refused_without_a_panic(text in ".{0,200}", parts in "[A-Za-z0-9_.-]{0,200}") {
            let (_, verifier) = pair();
            prop_assert_eq!(verifier.verify(&text, NOW), Err(TokenError::Invalid));
            prop_assert_eq!(verifier.verify(&parts, NOW), Err(TokenError::Invalid));
        }
    }
}
