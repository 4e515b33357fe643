//! Owns the validator `official`: whom the account center itself knows, by password, by device,
//! or by a signature of its own.

use super::{Fields, Identity, Proof, Validator, ValidatorCtx};
use crate::wire::Refusal;

/// Knows accounts by name and password, and guests by the id of their device. Its signature says
/// that of a guest: whoever knows the id may have one, as whoever knows it is the guest.
pub(super) struct Official;

impl Validator for Official {
    async fn check(&self, proof: &Proof, ctx: &ValidatorCtx) -> Result<Identity, Refusal> {
        match (&proof.openkey, &proof.auth) {
            // Who shows a password is never let in without it.
            (Some(password), _) => ctx.by_password(&proof.id, password).await,
            (None, Some(auth)) => {
                check_own(auth, proof, ctx).await?;
                ctx.guest(&proof.id).await
            }
            (None, None) => ctx.guest(&proof.id).await,
        }
    }

    fn pages(&self) -> Vec<&'static str> {
        vec!["/auth.html"]
    }

    async fn sign(&self, asked: &Fields, ctx: &ValidatorCtx) -> Result<Fields, Refusal> {
        let fields = Fields::new().with("id", asked.text("id")?).with("nonce", ctx.nonce());
        ctx.sign(fields.with("t", ctx.now()))
    }
}

/// Whether a signature over `id`, `nonce` and `t` is good for whoever shows it, this once.
pub(super) async fn check_own(
    auth: &Fields,
    proof: &Proof,
    ctx: &ValidatorCtx,
) -> Result<(), Refusal> {
    // Clients of administrators look for a `code` in it.
    auth.only(&["code", "id", "nonce", "t", "sign"])?;
    let (id, nonce) = (auth.text("id")?, auth.text("nonce")?);
    ctx.verify(auth)?;
    if id != proof.id {
        return Err(ctx.refused("the signature is somebody else's"));
    }
    ctx.once(&nonce).await
}
