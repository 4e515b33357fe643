//! Owns the player's state between the rules and the wire: loaded, saved, shown.

use bastide::{Account, Code, Ctx, LoadError, Player, Refusal, def, msg};
use prost::Message as _;

use crate::{
    proto::cards as proto,
    rules::{Bag, DrawError, Stack},
};

/// A player of the card game.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hero {
    bag: Bag,
}

impl Player for Hero {
    fn load(_: &Account, saved: Option<&[u8]>, now_ms: i64) -> Result<Self, LoadError> {
        let bag = match saved {
            Some(bytes) => Bag::from(proto::Bag::decode(bytes)?),
            None => Bag::new(now_ms),
        };
        Ok(Self { bag })
    }

    fn save(&self) -> Vec<u8> {
        proto::Bag::from(&self.bag).encode_to_vec()
    }

    fn user(&self, account: &Account, now_ms: i64) -> def::User {
        self.user_record(account, now_ms)
    }

    fn on_sign_in(&mut self, ctx: &Ctx) {
        if self.bag.top_up(ctx.now_ms()) {
            ctx.push(&self.items());
        }
    }
}

impl Hero {
    pub(crate) fn draw(
        &mut self,
        count: i32,
        now_ms: i64,
        random: impl FnMut() -> u64,
    ) -> Result<proto::draw::Res, Refusal> {
        let drawn = self.bag.draw(count, now_ms, random).map_err(refusal)?;
        let cards = drawn.iter().map(|card| proto::Card {
            id: card.id,
            name: card.name.to_owned(),
            rarity: card.rarity as i32,
        });
        Ok(proto::draw::Res {
            code: 0,
            cards: cards.collect(),
            gold: Some(self.bag.gold),
            draws_until_rare: Some(self.bag.draws_until_rare()),
        })
    }

    pub(crate) fn items(&self) -> msg::get_items::Res {
        let items = self.bag.items().into_iter().map(|item| def::Item {
            id: item.id,
            idx: item.idx,
            num: item.num,
            create_time: item.create_time,
            update_time: item.update_time,
        });
        msg::get_items::Res { code: 0, items: items.collect() }
    }

    pub(crate) fn user_record(&self, account: &Account, now_ms: i64) -> def::User {
        let name = match self.bag.name.as_str() {
            "" => format!("guest-{}", account.id),
            name => name.to_owned(),
        };
        def::User {
            id: account.id,
            account: account.id,
            name: Some(name),
            icon: Some(1),
            lvl: Some(1),
            vip: Some(1),
            motto: None,
            status: 1,
            create_time: self.bag.created_ms,
            update_time: now_ms,
            items: self.items().items,
        }
    }

    pub(crate) const fn created_ms(&self) -> i64 {
        self.bag.created_ms
    }
}

fn refusal(error: DrawError) -> Refusal {
    Code(error.code()).because(error.to_string())
}

// === The stored record ===

impl From<proto::Bag> for Bag {
    fn from(stored: proto::Bag) -> Self {
        let cards = stored.cards.iter().map(|stack| {
            let &proto::Stack { card_id, count, create_time, update_time } = stack;
            (card_id, Stack { count, create_time, update_time })
        });
        Self {
            cards: cards.collect(),
            gold: stored.gold,
            diamond: stored.diamond,
            draws_since_rare: stored.draws_since_rare,
            name: stored.name.unwrap_or_default(),
            created_ms: stored.created_ms,
            gold_updated_ms: stored.gold_updated_ms,
        }
    }
}

impl From<&Bag> for proto::Bag {
    fn from(bag: &Bag) -> Self {
        let cards = bag.cards.iter().map(|(id, stack)| proto::Stack {
            card_id: *id,
            count: stack.count,
            create_time: stack.create_time,
            update_time: stack.update_time,
        });
        Self {
            cards: cards.collect(),
            gold: bag.gold,
            diamond: bag.diamond,
            draws_since_rare: bag.draws_since_rare,
            name: Some(bag.name.clone()).filter(|name| !name.is_empty()),
            created_ms: bag.created_ms,
            gold_updated_ms: bag.gold_updated_ms,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hero_is_after_loading_what_it_was_before_saving() {
        let account = Account { id: 10_001, openid: "o".to_owned() };
        let mut hero = Hero::load(&account, None, 5).expect("new");
        let mut seed = 0;
        for now_ms in 6..16 {
            let random = || {
                seed += 7;
                seed
            };
            hero.draw(10, now_ms, random).expect("gold for a hundred");
        }
        assert_eq!(Hero::load(&account, Some(&hero.save()), 99).expect("known"), hero);
    }

    #[test]
    fn bytes_that_are_no_record_are_refused() {
        let account = Account { id: 10_001, openid: "o".to_owned() };
        assert!(Hero::load(&account, Some(b"\xff\xff"), 0).is_err());
    }
}
