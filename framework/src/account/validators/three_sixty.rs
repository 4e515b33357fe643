//! Owns the validator `360`: two stages, where the platform signs who somebody is.

use super::{Fields, Identity, Proof, Validator, ValidatorCtx};
use crate::wire::{Code, Refusal};

/// Every field that the platform signs.
const FIELDS: [&str; 7] =
    ["avatar", "is_tourist", "nickname", "nonce", "plat_user_id", "sign", "t"];

/// Believes what was signed with the secret that it shares with the platform. Its page plays the
/// platform for developers: outside `dev` it is shut unless `validators.360.page` is `open`, for it
/// signs whatever it is asked.
pub(super) struct ThreeSixty;

impl Validator for ThreeSixty {
    async fn check(&self, proof: &Proof, ctx: &ValidatorCtx) -> Result<Identity, Refusal> {
        let auth = proof.auth()?;
        auth.only(&FIELDS)?;
        let (user, nonce) = (auth.text("plat_user_id")?, auth.text("nonce")?);
        ctx.verify(auth)?;
        if user != proof.id {
            return Err(ctx.refused("the signature is somebody else's"));
        }
        ctx.once(&nonce).await?;
        let identity = Identity::new(user);
        Ok(match auth.text("nickname") {
            Ok(nickname) => identity.nickname(nickname),
            Err(_) => identity,
        })
    }

    fn pages(&self) -> Vec<&'static str> {
        vec!["/auth360.html"]
    }

    async fn sign(&self, asked: &Fields, ctx: &ValidatorCtx) -> Result<Fields, Refusal> {
        let user = asked.text("id")?;
        if ctx.setting("page") != Some("open") {
            return Err(Code::BANNED.because(
                "the platform signs, not this page: open it for tests with \
                 validators.360.page = \"open\"",
            ));
        }
        ctx.sign(
            Fields::new()
                .with("t", ctx.now())
                .with("nonce", ctx.nonce())
                .with("nickname", user.clone())
                .with("plat_user_id", user)
                .with("avatar", "0")
                .with("is_tourist", 0),
        )
    }
}
