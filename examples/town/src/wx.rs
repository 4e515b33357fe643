//! A way to sign in that a studio adds: the page signs who somebody is, the check believes it.

use bastide::{Fields, Identity, Proof, Refusal, Validator, ValidatorCtx};

pub(crate) struct Wx;

impl Validator for Wx {
    async fn check(&self, proof: &Proof, ctx: &ValidatorCtx) -> Result<Identity, Refusal> {
        let auth = proof.auth()?;
        auth.only(&["sign", "t", "userId"])?;
        ctx.verify(auth)?;
        Ok(Identity::new(auth.text("userId")?))
    }

    fn pages(&self) -> Vec<&'static str> {
        vec!["/auth/new.html"]
    }

    // Signs for whoever asks, so that the flow can be tried. A game asks its platform here.
    async fn sign(&self, asked: &Fields, ctx: &ValidatorCtx) -> Result<Fields, Refusal> {
        ctx.sign(Fields::new().with("t", ctx.now()).with("userId", asked.text("id")?))
    }
}
