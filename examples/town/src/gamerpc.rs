//! Two ways to sign in by the names that gamerpc has for them: a password, and a platform that turns
//! a key of one use into who somebody is.

use bastide::{Code, Fields, Identity, Proof, Refusal, Validator, ValidatorCtx};

/// A password account under the name `authpwd`.
pub(crate) struct Password;

impl Validator for Password {
    async fn check(&self, proof: &Proof, ctx: &ValidatorCtx) -> Result<Identity, Refusal> {
        ctx.by_password(&proof.id, proof.openkey()?).await
    }
}

/// A platform: its page turns a key into an openid and a key of its own. It plays the platform for
/// developers; a game asks its platform there.
pub(crate) struct Platform;

impl Validator for Platform {
    async fn check(&self, proof: &Proof, ctx: &ValidatorCtx) -> Result<Identity, Refusal> {
        let key = proof.openkey()?;
        // The oldest clients keep the key of one use.
        if is_open(ctx) && ctx.same(&name(key, ctx)?, &proof.id) {
            ctx.once(key).await?;
            return Ok(Identity::new(proof.id.as_str()));
        }
        let mut parts = key.splitn(3, '.');
        let mut part = || parts.next().unwrap_or_default();
        let signed = Fields::new().with("t", part()).with("nonce", part());
        let signed = signed.with("openid", proof.id.as_str()).with("sign", part());
        let nonce = signed.text("nonce")?;
        ctx.verify(&signed)?;
        ctx.once(&nonce).await?;
        Ok(Identity::new(proof.id.as_str()))
    }

    fn pages(&self) -> Vec<&'static str> {
        vec!["/authwx"]
    }

    async fn sign(&self, asked: &Fields, ctx: &ValidatorCtx) -> Result<Fields, Refusal> {
        let key = asked.text("openkey")?;
        if !is_open(ctx) {
            return Err(Code::BANNED.because(
                "the platform says who somebody is, not this page: open it for tests with \
                 validators.authwx.page = \"open\"",
            ));
        }
        let openid = name(&key, ctx)?;
        let fields = Fields::new().with("t", ctx.now()).with("nonce", ctx.nonce());
        let signed = ctx.sign(fields.with("openid", openid.as_str()))?;
        let part = |name| signed.text(name);
        let token = format!("{}.{}.{}", part("t")?, part("nonce")?, part("sign")?);
        let told = Fields::new().with("openid", openid.as_str()).with("unionid", openid);
        Ok(told.with("access_token", token))
    }
}

fn is_open(ctx: &ValidatorCtx) -> bool {
    ctx.setting("page") == Some("open")
}

/// The same key is the same person, and nobody reads the key in the name.
fn name(key: &str, ctx: &ValidatorCtx) -> Result<String, Refusal> {
    Ok(Fields::new().with("key", key).signature(ctx.secret()?))
}
