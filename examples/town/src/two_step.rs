//! A way to sign in with a phone or mail: the page signs who asks and sends a code, the check takes
//! it.

use bastide::{Fields, Identity, Proof, Refusal, Validator, ValidatorCtx};

pub(crate) struct TwoStep;

/// What the page signs.
const SIGNED: [&str; 6] = ["addrType", "address", "nonce", "openid", "sign", "t"];

impl Validator for TwoStep {
    async fn check(&self, proof: &Proof, ctx: &ValidatorCtx) -> Result<Identity, Refusal> {
        ctx.secret()?;
        let auth = proof.auth()?;
        // The code comes beside what was signed: among it, or from older clients as `openkey`.
        let code = auth.text("captcha").or_else(|_| proof.openkey().map(str::to_owned))?;
        let auth = auth.clone().without("captcha");
        auth.only(&SIGNED)?;
        let (openid, address) = (auth.text("openid")?, auth.text("address")?);
        ctx.verify(&auth)?;
        if openid != proof.id {
            return Err(ctx.refused("the signature is somebody else's"));
        }
        // Whoever reads what is sent to an address is its owner, whatever it calls itself and however
        // it writes the address.
        Ok(Identity::new(ctx.take_code(&address, &code).await?))
    }

    fn pages(&self) -> Vec<&'static str> {
        vec!["/auth2step"]
    }

    async fn sign(&self, asked: &Fields, ctx: &ValidatorCtx) -> Result<Fields, Refusal> {
        // Before a code is sent: while this is off, nobody could use it.
        ctx.secret()?;
        let address = asked.text("address")?;
        ctx.send_code(&address).await?;
        let kind = if address.contains('@') { "mail" } else { "phone" };
        let openid = asked.text("id").unwrap_or_else(|_| address.clone());
        let fields = Fields::new().with("addrType", kind).with("address", address);
        ctx.sign(fields.with("openid", openid).with("nonce", ctx.nonce()).with("t", ctx.now()))
    }

    // A developer's phone: what it was sent.
    async fn call(
        &self,
        call: &str,
        asked: &Fields,
        ctx: &ValidatorCtx,
    ) -> Result<String, Refusal> {
        match call {
            "getKey" => ctx.code_sent(&asked.text("address")?).await,
            _ => Err(bastide::Code::UNKNOWN_API.because("there is no such func")),
        }
    }
}
