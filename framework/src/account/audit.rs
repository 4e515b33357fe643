//! Owns how long it is kept what happened to accounts, and what an operator is shown of one.
//! Leaves what is noted to whoever changes something.

use tokio::time::sleep;

use super::center::AccountCenter;
use crate::{
    limits::{NOTES_PER_ACCOUNT_MAX, NOTES_SHOWN_MAX, SWEEP_EVERY, SWEPT_AT_ONCE_MAX},
    proto::admin as proto,
    store::{AccountStatus, Noted, StoreError},
    tasks::Tasks,
    wire::{Code, Refusal},
};

impl AccountCenter {
    /// What operators may know of an account, and what happened to it last.
    pub(crate) async fn view(self, req: proto::view::Req) -> Result<proto::view::Res, Refusal> {
        let away = |e| self.0.away(e);
        let account = self.0.store.account_by_id(req.account).await.map_err(away)?;
        let account = account.ok_or_else(|| Code::NO_SUCH_ACCOUNT.because("no such account"))?;
        let notes = self.0.store.last_notes(account.id, NOTES_SHOWN_MAX).await.map_err(away)?;
        Ok(proto::view::Res {
            account: account.id,
            openid: account.openid,
            username: account.username,
            phone: account.phone,
            email: account.email,
            guest: account.device_id.is_some(),
            password: account.password_hash.is_some(),
            status: word(account.status),
            created_ms: account.created_ms,
            last_sign_in_ms: account.last_sign_in_ms,
            last_play_ms: account.last_play_ms,
            banned_until_ms: account.banned_until_ms,
            banned_reason: account.banned_reason,
            notes: notes.into_iter().map(told).collect(),
        })
    }

    /// Sweeps notes until the tasks are told to stop.
    pub(crate) async fn keep_swept(self, tasks: Tasks) {
        loop {
            tokio::select! {
                biased; // stop before more work
                () = tasks.stopped() => return,
                swept = self.sweep() => match swept {
                    Ok(0) => {}
                    Ok(notes) => tracing::debug!(target: "account", notes, "notes swept"),
                    // The store has said so itself.
                    Err(e) => tracing::debug!(target: "account", "notes are not swept: {e}"),
                },
            }
            tokio::select! {
                biased; // stop before more work
                () = tasks.stopped() => return,
                () = sleep(SWEEP_EVERY) => {}
            }
        }
    }

    /// Deletes notes that are too old, and of each account all but the newest. Says how many.
    async fn sweep(&self) -> Result<u64, StoreError> {
        let store = &self.0.store;
        let keep_ms = i64::try_from(self.0.audit_keep.as_millis()).unwrap_or(i64::MAX);
        let before_ms = self.0.clock.now_ms().saturating_sub(keep_ms);
        let mut swept = 0;
        loop {
            let old = store.sweep_notes(before_ms, SWEPT_AT_ONCE_MAX).await?;
            swept += old;
            if old == 0 {
                break;
            }
        }
        let mut after = i64::MIN;
        loop {
            let counts = store.count_notes(after, SWEPT_AT_ONCE_MAX).await?;
            let Some((last, _)) = counts.last() else { return Ok(swept) };
            after = *last;
            for (account, _) in counts.iter().filter(|(_, notes)| *notes > NOTES_PER_ACCOUNT_MAX) {
                loop {
                    let max = SWEPT_AT_ONCE_MAX;
                    let more = store.trim_notes(*account, NOTES_PER_ACCOUNT_MAX, max).await?;
                    swept += more;
                    if more == 0 {
                        break;
                    }
                }
            }
        }
    }
}

fn word(status: AccountStatus) -> String {
    match status {
        AccountStatus::Open => "open".to_owned(),
        AccountStatus::Locked => "locked".to_owned(),
        AccountStatus::Deleted => "deleted".to_owned(),
        AccountStatus::Other(number) => format!("status {number}"),
    }
}

fn told(noted: Noted) -> proto::view::Note {
    let Noted { at_ms, what, way, app_id, ip, detail } = noted;
    proto::view::Note { at_ms, what, way, app_id, ip, detail }
}

#[cfg(test)]
mod tests {
    use super::{super::world::World, *};
    use crate::store::{Change, Note, What};

    #[tokio::test]
    async fn an_operator_is_shown_an_account_and_what_happened_to_it_newest_first() {
        let w = World::new().await;
        let id = w.registry("anna", "secret1").await.unwrap().account_id.unwrap();
        for (at_ms, password) in [(2_000_000, "wrong"), (3_000_000, "secret1")] {
            w.clock.set(at_ms);
            let _outcome = w.auth("anna", password).await;
        }
        let view = async || w.center.clone().view(proto::view::Req { account: id }).await.unwrap();
        // The note of the refusal is not waited for by anybody.
        while view().await.notes.len() < 4 {
            tokio::task::yield_now().await;
        }
        let view = view().await;
        let what = |note: &proto::view::Note| (note.at_ms, note.what.clone(), note.way.clone());
        let note = |at_ms, what: &str, way: &str| (at_ms, what.to_owned(), way.to_owned());
        assert_eq!(what(&view.notes[0]), note(3_000_000, "signed_in", "password"));
        assert_eq!(what(&view.notes[1]), note(2_000_000, "refused", "password"));
        let mut first: Vec<_> = view.notes[2..].iter().map(what).collect();
        first.sort();
        let registered = note(1_000_000, "registered", "password");
        assert_eq!(first, [registered, note(1_000_000, "signed_in", "registry")]);
        assert_eq!(view.notes[1].ip.as_deref(), Some("10.0.0.1"));
        assert_eq!((view.username.as_deref(), view.status.as_str()), (Some("anna"), "open"));
        assert_eq!((view.password, view.guest, view.last_sign_in_ms), (true, false, 3_000_000));
        let nobody = w.center.clone().view(proto::view::Req { account: 1 }).await.unwrap_err();
        assert_eq!(nobody.code, Code::NO_SUCH_ACCOUNT);
    }

    #[tokio::test]
    async fn a_sweep_leaves_what_is_young_and_the_newest_200_of_each_account() {
        let w = World::new().await;
        let id = w.guest("phone").await.unwrap().account_id.unwrap();
        let keep_ms = i64::try_from(w.center.0.audit_keep.as_millis()).unwrap();
        w.clock.set(1_000_001 + keep_ms);
        for n in 0..210 {
            let note = Note::new(What::SignedIn, "guest");
            let change = Change { account: id, at_ms: 2_000_000 + n, note };
            w.store.set_ban(change, 0, String::new()).await.unwrap();
        }
        // The two of the registration are too old; ten of the others are too many.
        assert_eq!(w.center.sweep().await, Ok(12));
        assert_eq!(w.center.sweep().await, Ok(0));
        let left = w.store.last_notes(id, 999).await.unwrap();
        assert_eq!((left.len(), left[199].at_ms), (200, 2_000_010));
    }
}
