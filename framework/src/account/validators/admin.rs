//! Owns the validator `admin`: administrators, who sign with the secret that operators share.

use super::{Identity, Proof, Validator, ValidatorCtx, official::check_own};
use crate::wire::Refusal;

/// Believes a signature over `id`, `nonce` and `t` that was made with `admin.secret`. It has no page:
/// who knows the secret signs, and nobody else.
pub(super) struct Administrator;

impl Validator for Administrator {
    async fn check(&self, proof: &Proof, ctx: &ValidatorCtx) -> Result<Identity, Refusal> {
        check_own(proof.auth()?, proof, ctx).await?;
        Ok(Identity::new(proof.id.as_str()))
    }
}
