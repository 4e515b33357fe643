//! Owns the validator `admin`: administrators, who sign with the secret that operators share.

use super::{Fields, Identity, Proof, Validator, ValidatorCtx, official::check_own};
use crate::wire::{Code, Refusal};

/// Believes a signature over `id`, `nonce` and `t` that was made with `admin.secret`: who knows the
/// secret signs, and nobody else. Its page signs for whoever shows the secret as `openkey`, since
/// some clients cannot; a secret in an address is read by whoever keeps addresses, so outside `dev`
/// the page is shut unless `validators.admin.page` is `open`.
pub(super) struct Administrator;

impl Validator for Administrator {
    async fn check(&self, proof: &Proof, ctx: &ValidatorCtx) -> Result<Identity, Refusal> {
        check_own(proof.auth()?, proof, ctx).await?;
        Ok(Identity::new(proof.id.as_str()))
    }

    fn pages(&self) -> Vec<&'static str> {
        vec!["/authAdmin.html"]
    }

    async fn sign(&self, asked: &Fields, ctx: &ValidatorCtx) -> Result<Fields, Refusal> {
        let said = asked.text("openid").or_else(|_| asked.text("id"))?;
        let id = said.strip_prefix("admin.").unwrap_or(&said);
        let shown = asked.text("openkey")?;
        if ctx.setting("page") != Some("open") {
            return Err(Code::BANNED.because(
                "administrators sign themselves: open this page with validators.admin.page = \
                 \"open\"",
            ));
        }
        if !ctx.same(&shown, ctx.secret()?) {
            return Err(ctx.refused("the secret is wrong"));
        }
        let fields = Fields::new().with("code", 0).with("id", id).with("nonce", ctx.nonce());
        ctx.sign(fields.with("t", ctx.now()))
    }
}
