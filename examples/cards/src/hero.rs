//! Owns the player's state between the rules and the wire: loaded, saved, shown.

use bastide::{Account, Code, Ctx, LoadError, Player, Refusal, def, msg};
use prost::Message as _;

use crate::{
    proto::cards as proto,
    rules::{Bag, CARDS, Card, DrawError, Stack},
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

/// One card that a player owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owned {
    /// This card's own: no other of the player's has it, and it keeps it.
    pub id: u64,
    /// What players call it.
    pub name: &'static str,
    /// 1 common, 2 uncommon, 3 rare.
    pub rarity: i32,
}

impl Owned {
    /// The `nth` card of a kind, counted from 1.
    const fn new(card: &Card, nth: i64) -> Self {
        // A kind has its number above 32 bits, of which each of its cards has one.
        let id = ((card.id as u64) << 32) | (nth as u64 & u32::MAX as u64);
        Self { id, name: card.name, rarity: card.rarity as i32 }
    }
}

impl Hero {
    /// What others see of it, such as `guest-10001`.
    pub fn name(&self, account: &Account) -> String {
        match self.bag.name.as_str() {
            "" => format!("guest-{}", account.id),
            name => name.to_owned(),
        }
    }

    /// Its gold.
    pub const fn gold(&self) -> i64 {
        self.bag.gold
    }

    /// Its diamonds.
    pub const fn diamond(&self) -> i64 {
        self.bag.diamond
    }

    /// How many cards it has.
    pub fn card_count(&self) -> i64 {
        self.bag.cards.values().map(|stack| stack.count).sum()
    }

    /// Its cards, at most so many: of each kind the latest.
    pub fn cards(&self, most: usize) -> Vec<Owned> {
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let each = match self.card_count() <= most {
            true => most,
            false => most / CARDS.len() as i64,
        };
        let mut owned = Vec::new();
        for (id, stack) in &self.bag.cards {
            // A kind of another version has no name here.
            let Some(card) = CARDS.iter().find(|card| card.id == *id) else { continue };
            let first = (stack.count - each).max(0) + 1;
            owned.extend((first..=stack.count).map(|nth| Owned::new(card, nth)));
        }
        owned
    }

    pub(crate) fn draw_free(
        &mut self,
        count: i32,
        now_ms: i64,
        random: impl FnMut() -> u64,
    ) -> Result<Vec<Owned>, Refusal> {
        let drawn = self.bag.draw_free(count, now_ms, random).map_err(refusal)?;
        Ok(drawn.into_iter().map(|(card, nth)| Owned::new(card, nth)).collect())
    }

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
        def::User {
            id: account.id,
            account: account.id,
            name: Some(self.name(account)),
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
    use std::collections::BTreeSet;

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
    fn each_card_has_an_id_of_its_own_that_it_keeps() {
        let account = Account { id: 10_001, openid: "o".to_owned() };
        let mut hero = Hero::load(&account, None, 5).expect("new");
        let (mut seed, mut drawn) = (0_u64, Vec::new());
        for now_ms in 6..106 {
            let random = || {
                seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
                seed ^ (seed >> 29)
            };
            drawn.extend(hero.draw_free(10, now_ms, random).expect("for nothing"));
        }
        let ids = |cards: &[Owned]| -> BTreeSet<u64> { cards.iter().map(|card| card.id).collect() };
        assert_eq!(ids(&drawn).len(), 1000);
        assert_eq!(ids(&hero.cards(1000)), ids(&drawn));
        assert_eq!((hero.card_count(), hero.gold()), (1000, 100));
        let some = hero.cards(500);
        assert!((12..=500).contains(&some.len()), "{}", some.len());
        assert!(ids(&some).is_subset(&ids(&drawn)));
    }

    #[test]
    fn bytes_that_are_no_record_are_refused() {
        let account = Account { id: 10_001, openid: "o".to_owned() };
        assert!(Hero::load(&account, Some(b"\xff\xff"), 0).is_err());
    }
}
