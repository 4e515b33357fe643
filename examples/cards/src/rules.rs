//! Owns the rules of the game: what a player begins with, what a draw costs, which cards come.
//! Pure functions; messages, storage and the source of randomness are left to the caller.

use std::{collections::BTreeMap, fmt};

/// Gold of a new player.
pub(crate) const GOLD_AT_START: i64 = 100;

/// Diamonds of a new player.
pub(crate) const DIAMONDS_AT_START: i64 = 10;

/// A player who signs in with less gold is topped up to this, so that nobody is stuck.
pub(crate) const GOLD_AT_SIGN_IN_MIN: i64 = 10;

/// Gold for one card.
pub(crate) const GOLD_PER_CARD: i64 = 1;

/// Cards of one draw request: one screen full.
pub(crate) const CARDS_PER_DRAW_MAX: i32 = 10;

/// The same where they cost nothing: an answer of 7 KB.
pub(crate) const FREE_CARDS_PER_DRAW_MAX: i32 = 100;

/// The draw of this number since the last rare card is rare, whatever the dice say.
pub(crate) const DRAWS_UNTIL_RARE_MAX: i32 = 50;

/// Code of the contract for a malformed parameter.
pub(crate) const CODE_PARAMETER: i32 = 210;

/// This game's own code: not enough gold. A studio's codes start at 10000.
pub(crate) const CODE_NOT_ENOUGH_GOLD: i32 = 10_001;

/// Rare cards in a hundred draws, the guaranteed ones aside.
const RARE_PERCENT: u64 = 2;

/// Uncommon cards in a hundred draws.
const UNCOMMON_PERCENT: u64 = 18;

const _: () = assert!(RARE_PERCENT + UNCOMMON_PERCENT <= 100);
const _: () = assert!(GOLD_AT_START >= GOLD_AT_SIGN_IN_MIN);
// A topped-up player can always draw as many cards as one request holds.
const _: () = assert!(GOLD_AT_SIGN_IN_MIN >= GOLD_PER_CARD * CARDS_PER_DRAW_MAX as i64);

/// A kind of card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Card {
    /// 1 and up, never reused: it is in stored bags.
    pub(crate) id: i32,
    /// What players call it.
    pub(crate) name: &'static str,
    /// How seldom it comes.
    pub(crate) rarity: Rarity,
}

/// How seldom a card comes; the number is the one on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rarity {
    /// 80 %.
    Common = 1,
    /// 18 %.
    Uncommon = 2,
    /// 2 %, and each 50th draw without one.
    Rare = 3,
}

/// What a player owns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bag {
    /// Never negative.
    pub(crate) gold: i64,
    /// Nothing costs diamonds yet.
    pub(crate) diamond: i64,
    /// Draws since the last rare card.
    pub(crate) draws_since_rare: i32,
    /// By card id.
    pub(crate) cards: BTreeMap<i32, Stack>,
    /// What others see; empty until chosen.
    pub(crate) name: String,
    /// When the bag was made, ms since 1970.
    pub(crate) created_ms: i64,
    /// When the gold last changed, ms since 1970.
    pub(crate) gold_updated_ms: i64,
}

/// Cards of one kind in a bag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stack {
    /// How many, at least one.
    pub(crate) count: i64,
    /// When the first of them came, ms since 1970.
    pub(crate) create_time: i64,
    /// When the latest of them came, ms since 1970.
    pub(crate) update_time: i64,
}

/// A thing in the bag as clients see it: the members of `def.Item`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Item {
    /// 1 gold, 2 diamonds, 1000 and the card's id for a card.
    pub(crate) id: i64,
    /// Kind: one of [`Item::GOLD`], [`Item::DIAMOND`], [`Item::CARD`].
    pub(crate) idx: i32,
    /// How many.
    pub(crate) num: i64,
    /// ms since 1970.
    pub(crate) create_time: i64,
    /// ms since 1970.
    pub(crate) update_time: i64,
}

/// Why nothing was drawn. The bag is as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DrawError {
    /// Not a number of cards that can be drawn at once. Ask for 1 to 10.
    Count(i32),
    /// Not a number of cards that can be drawn for nothing at once. Ask for 1 to 100.
    FreeCount(i32),
    /// Fewer gold than the cards cost. Draw fewer, or sign in again to be topped up.
    Gold {
        /// What the cards cost.
        cost: i64,
        /// What the player has.
        gold: i64,
    },
}

// === impl Card ===

impl Card {
    const fn new(id: i32, name: &'static str, rarity: Rarity) -> Self {
        Self { id, name, rarity }
    }
}

// === impl Bag ===

impl Bag {
    /// The bag of a new player.
    pub(crate) const fn new(now_ms: i64) -> Self {
        Self {
            gold: GOLD_AT_START,
            diamond: DIAMONDS_AT_START,
            draws_since_rare: 0,
            cards: BTreeMap::new(),
            name: String::new(),
            created_ms: now_ms,
            gold_updated_ms: now_ms,
        }
    }

    /// At sign-in: a player with less than [`GOLD_AT_SIGN_IN_MIN`] gets that much. Tells whether
    /// the bag has changed.
    pub(crate) const fn top_up(&mut self, now_ms: i64) -> bool {
        let poor = self.gold < GOLD_AT_SIGN_IN_MIN;
        if poor {
            self.gold = GOLD_AT_SIGN_IN_MIN;
            self.gold_updated_ms = now_ms;
        }
        poor
    }

    /// Draws `count` cards into the bag and pays for them: all of them or none.
    ///
    /// `random` gives uniform numbers; it is asked twice for each card.
    ///
    /// # Errors
    /// When `count` is not 1 to 10, or when the gold is not enough.
    pub(crate) fn draw(
        &mut self,
        count: i32,
        now_ms: i64,
        mut random: impl FnMut() -> u64,
    ) -> Result<Vec<&'static Card>, DrawError> {
        if !(1..=CARDS_PER_DRAW_MAX).contains(&count) {
            return Err(DrawError::Count(count));
        }
        let cost = GOLD_PER_CARD * i64::from(count);
        if self.gold < cost {
            return Err(DrawError::Gold { cost, gold: self.gold });
        }
        self.gold -= cost;
        self.gold_updated_ms = now_ms;
        Ok((0..count).map(|_| self.draw_one(now_ms, &mut random).0).collect())
    }

    /// Draws `count` cards into the bag for nothing. Says of each how many of its kind there are
    /// with it.
    ///
    /// # Errors
    /// When `count` is not 1 to 100.
    pub(crate) fn draw_free(
        &mut self,
        count: i32,
        now_ms: i64,
        mut random: impl FnMut() -> u64,
    ) -> Result<Vec<(&'static Card, i64)>, DrawError> {
        if !(1..=FREE_CARDS_PER_DRAW_MAX).contains(&count) {
            return Err(DrawError::FreeCount(count));
        }
        Ok((0..count).map(|_| self.draw_one(now_ms, &mut random)).collect())
    }

    /// How many draws it takes at the latest until a rare card comes: 1 to 50.
    pub(crate) fn draws_until_rare(&self) -> i32 {
        // The record may be of a version with another guarantee.
        DRAWS_UNTIL_RARE_MAX.saturating_sub(self.draws_since_rare).clamp(1, DRAWS_UNTIL_RARE_MAX)
    }

    /// What `msg.GetItems` lists: gold, diamonds, then the cards by id.
    pub(crate) fn items(&self) -> Vec<Item> {
        let gold = Item {
            id: 1,
            idx: Item::GOLD,
            num: self.gold,
            create_time: self.created_ms,
            update_time: self.gold_updated_ms,
        };
        let diamond = Item {
            id: 2,
            idx: Item::DIAMOND,
            num: self.diamond,
            update_time: self.created_ms,
            ..gold
        };
        let cards = self.cards.iter().map(|(id, stack)| Item {
            id: Item::CARD_ID_BASE + i64::from(*id),
            idx: Item::CARD,
            num: stack.count,
            create_time: stack.create_time,
            update_time: stack.update_time,
        });
        [gold, diamond].into_iter().chain(cards).collect()
    }

    /// A card, and how many of its kind there are with it.
    fn draw_one(&mut self, now_ms: i64, random: &mut impl FnMut() -> u64) -> (&'static Card, i64) {
        let rolled = rarity(random());
        let rarity = if self.draws_until_rare() == 1 { Rarity::Rare } else { rolled };
        self.draws_since_rare =
            if rarity == Rarity::Rare { 0 } else { self.draws_since_rare.max(0) + 1 };

        let card = pick(rarity, random());
        let stack = self.cards.entry(card.id).or_insert(Stack {
            count: 0,
            create_time: now_ms,
            update_time: now_ms,
        });
        stack.count += 1;
        stack.update_time = now_ms;
        (card, stack.count)
    }
}

// === impl Item ===

impl Item {
    /// Kind of gold.
    pub(crate) const GOLD: i32 = 100;
    /// Kind of diamonds.
    pub(crate) const DIAMOND: i32 = 101;
    /// Kind of every card.
    pub(crate) const CARD: i32 = 102;
    /// Above the ids of gold and diamonds.
    const CARD_ID_BASE: i64 = 1000;
}

// === impl DrawError ===

impl DrawError {
    /// The result code for the client.
    pub(crate) const fn code(self) -> i32 {
        match self {
            Self::Count(_) | Self::FreeCount(_) => CODE_PARAMETER,
            Self::Gold { .. } => CODE_NOT_ENOUGH_GOLD,
        }
    }
}

impl fmt::Display for DrawError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => {
                write!(f, "count is {count}: draw 1 to {CARDS_PER_DRAW_MAX} cards")
            }
            Self::FreeCount(count) => {
                write!(f, "count is {count}: draw 1 to {FREE_CARDS_PER_DRAW_MAX} cards")
            }
            Self::Gold { cost, gold } => {
                write!(f, "not enough gold: the cards cost {cost}, you have {gold}")
            }
        }
    }
}

impl std::error::Error for DrawError {}

// === helpers ===

/// The dice: 2 % rare, 18 % uncommon. The bias of `%` on 64 bits is below 10⁻¹⁷.
const fn rarity(random: u64) -> Rarity {
    match random % 100 {
        0..RARE_PERCENT => Rarity::Rare,
        RARE_PERCENT..UNCOMMON_END => Rarity::Uncommon,
        _ => Rarity::Common,
    }
}

/// One of the cards of that rarity, each as likely as the other.
fn pick(rarity: Rarity, random: u64) -> &'static Card {
    let alike = || CARDS.iter().filter(|card| card.rarity == rarity);
    let nth = random % alike().count() as u64;
    alike().nth(nth as usize).expect("every rarity has a card, and nth is below their number")
}

const UNCOMMON_END: u64 = RARE_PERCENT + UNCOMMON_PERCENT;

/// The set: a town and those who live in it.
pub(crate) const CARDS: [Card; 12] = [
    Card::new(1, "Mason", Rarity::Common),
    Card::new(2, "Baker", Rarity::Common),
    Card::new(3, "Carter", Rarity::Common),
    Card::new(4, "Watchman", Rarity::Common),
    Card::new(5, "Fishwife", Rarity::Common),
    Card::new(6, "Well", Rarity::Common),
    Card::new(7, "Market Hall", Rarity::Uncommon),
    Card::new(8, "Bell Tower", Rarity::Uncommon),
    Card::new(9, "Notary", Rarity::Uncommon),
    Card::new(10, "Covered Bridge", Rarity::Uncommon),
    Card::new(11, "Royal Charter", Rarity::Rare),
    Card::new(12, "Gate of the Four Winds", Rarity::Rare),
];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::vec, prelude::*};

    const NOW: i64 = 1_700_000_000_000;

    /// SplitMix64: the same numbers on every machine.
    fn fixed(mut seed: u64) -> impl FnMut() -> u64 {
        move || {
            seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let z = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        }
    }

    fn rich() -> Bag {
        Bag { gold: i64::MAX, ..Bag::new(NOW) }
    }

    #[test]
    fn a_new_player_has_100_gold_10_diamonds_and_no_cards() {
        let items = Bag::new(NOW).items();
        let seen: Vec<_> = items.iter().map(|i| (i.id, i.idx, i.num)).collect();
        assert_eq!(seen, [(1, 100, 100), (2, 101, 10)]);
        assert!(items.iter().all(|i| i.create_time == NOW && i.update_time == NOW));
    }

    #[test]
    fn a_card_costs_one_gold_and_lies_in_the_bag() {
        let mut bag = Bag::new(NOW);
        let cards = bag.draw(10, NOW + 1, fixed(1)).expect("gold enough");
        assert_eq!((cards.len(), bag.gold), (10, 90));
        assert_eq!(bag.cards.values().map(|s| s.count).sum::<i64>(), 10);
        assert!(cards.iter().all(|card| bag.cards.contains_key(&card.id)));
        let item = bag.items()[2];
        let (id, stack) = bag.cards.first_key_value().expect("a card");
        assert_eq!((item.id, item.idx, item.num), (1000 + i64::from(*id), 102, stack.count));
        assert_eq!(bag.items()[0].update_time, NOW + 1);
    }

    #[test]
    fn a_card_for_nothing_lies_in_the_same_bag_and_leaves_the_gold() {
        let mut bag = Bag::new(NOW);
        bag.draw(10, NOW + 1, || 99).expect("gold enough");
        let cards = bag.draw_free(2, NOW + 2, || 99).expect("a count");
        let counted: Vec<_> = cards.iter().map(|(card, count)| (card.id, *count)).collect();
        assert_eq!((counted, bag.gold), (vec![(4, 11), (4, 12)], 90));
        for count in [i32::MIN, 0, 101] {
            assert_eq!(bag.draw_free(count, NOW, || 99), Err(DrawError::FreeCount(count)));
        }
    }

    #[test]
    fn a_second_card_of_a_kind_keeps_the_time_of_the_first() {
        let mut bag = Bag::new(NOW);
        for later in [1, 2] {
            bag.draw(1, NOW + later, || 99).expect("gold enough");
        }
        let stack = *bag.cards.first_key_value().expect("one kind").1;
        assert_eq!(stack, Stack { count: 2, create_time: NOW + 1, update_time: NOW + 2 });
    }

    #[test]
    fn a_count_that_is_not_1_to_10_is_refused_by_name() {
        for count in [i32::MIN, -1, 0, 11, i32::MAX] {
            let mut bag = Bag::new(NOW);
            let refused = bag.draw(count, NOW, || 0).expect_err("not a count");
            assert_eq!(refused.code(), 210);
            let text = refused.to_string();
            assert!(text.contains("count") && text.contains(&count.to_string()), "{text}");
            assert_eq!(bag, Bag::new(NOW));
        }
    }

    #[test]
    fn a_draw_that_the_gold_does_not_pay_takes_nothing() {
        let mut bag = Bag { gold: 9, ..Bag::new(NOW) };
        let before = bag.clone();
        let refused = bag.draw(10, NOW + 1, || 0).expect_err("too dear");
        assert_eq!(refused, DrawError::Gold { cost: 10, gold: 9 });
        assert_eq!(refused.code(), 10_001);
        assert_eq!(bag, before);
        bag.draw(9, NOW + 1, || 0).expect("exactly enough");
        assert_eq!(bag.gold, 0);
    }

    #[test]
    fn only_a_poor_player_is_topped_up_at_sign_in() {
        for (gold, after, changed) in
            [(0, 10, true), (9, 10, true), (10, 10, false), (11, 11, false)]
        {
            let mut bag = Bag { gold, ..Bag::new(NOW) };
            assert_eq!(bag.top_up(NOW + 1), changed);
            assert_eq!(bag.gold, after);
            assert_eq!(bag.gold_updated_ms, NOW + i64::from(changed));
        }
    }

    #[test]
    fn the_50th_draw_without_luck_is_rare_and_the_count_begins_again() {
        // 99 is the unluckiest roll.
        let mut bag = rich();
        for round in 0..3 {
            for nth in 1..=50 {
                assert_eq!(bag.draws_until_rare(), 51 - nth, "round {round}");
                let card = bag.draw(1, NOW, || 99).expect("rich")[0];
                assert_eq!(card.rarity == Rarity::Rare, nth == 50, "round {round}, draw {nth}");
            }
        }
    }

    #[test]
    fn a_lucky_rare_card_begins_the_count_again() {
        let mut bag = rich();
        bag.draw(10, NOW, || 99).expect("rich");
        assert_eq!(bag.draws_until_rare(), 40);
        assert_eq!(bag.draw(1, NOW, || 0).expect("rich")[0].rarity, Rarity::Rare);
        assert_eq!(bag.draws_until_rare(), 50);
    }

    #[test]
    fn a_record_with_a_count_out_of_range_is_played_on() {
        for (stored, until) in [(i32::MIN, 50), (-1, 50), (50, 1), (i32::MAX, 1)] {
            let mut bag = Bag { draws_since_rare: stored, ..rich() };
            assert_eq!(bag.draws_until_rare(), until);
            bag.draw(1, NOW, || 99).expect("rich");
            assert_eq!(bag.draws_until_rare(), if until == 1 { 50 } else { 49 });
        }
    }

    #[test]
    fn the_dice_are_2_18_and_80_of_a_hundred() {
        let count = |r| (0..100).filter(|n| rarity(*n) == r).count();
        assert_eq!([Rarity::Rare, Rarity::Uncommon, Rarity::Common].map(count), [2, 18, 80]);
    }

    #[test]
    fn every_card_has_its_own_id_and_name() {
        for (n, card) in CARDS.iter().enumerate() {
            assert_eq!(CARDS.iter().filter(|other| other.id == card.id).count(), 1);
            assert!(CARDS[..n].iter().all(|c| c.id != card.id && c.name != card.name), "{card:?}");
        }
    }

    #[test]
    fn a_long_run_of_fixed_dice_gives_about_what_is_promised() {
        // 2 % and a guarantee at 50 make a rare card each (1 - 0.98⁵⁰) / 0.02 = 31.8 draws: 3.15 %.
        // One standard deviation of 100 000 draws is about 0.05 %.
        const DRAWS: i32 = 100_000;
        let (mut bag, mut dice) = (rich(), fixed(7));
        for _ in 0..DRAWS / 10 {
            bag.draw(10, NOW, &mut dice).expect("rich");
        }
        let share = |rarity| {
            let of = |card: &&Card| card.rarity == rarity;
            let count = |card: &Card| bag.cards.get(&card.id).map_or(0, |s| s.count);
            CARDS.iter().filter(of).map(count).sum::<i64>() as f64 / f64::from(DRAWS)
        };
        let [rare, uncommon] = [Rarity::Rare, Rarity::Uncommon].map(share);
        assert!((0.029..0.034).contains(&rare), "{rare}");
        assert!((0.172..0.183).contains(&uncommon), "{uncommon}");
        for kind in CARDS {
            let alike = CARDS.iter().filter(|c| c.rarity == kind.rarity).count() as f64;
            let expected = share(kind.rarity) * f64::from(DRAWS) / alike;
            let seen = bag.cards[&kind.id].count as f64;
            assert!((seen / expected - 1.0).abs() < 0.1, "{kind:?}: {seen}, expected {expected}");
        }
    }

    proptest! {
        #[test]
        fn there_are_never_50_draws_without_a_rare_card(
            rolls in vec(any::<u64>(), 1..8),
            counts in vec(1..=10, 20..60),
        ) {
            let (mut bag, mut next) = (rich(), rolls.into_iter().cycle());
            let mut without = 0;
            for count in counts {
                for card in bag.draw(count, NOW, || next.next().unwrap_or(99)).expect("rich") {
                    without = if card.rarity == Rarity::Rare { 0 } else { without + 1 };
                    prop_assert!(without < 50);
                }
                prop_assert_eq!(bag.draws_until_rare(), 50 - without);
            }
        }

        #[test]
        fn gold_is_never_negative_and_pays_for_each_card(
            gold in 0_i64..40,
            counts in vec(any::<i8>().prop_map(i32::from), 0..40),
            seed: u64,
        ) {
            let (mut bag, mut dice) = (Bag { gold, ..Bag::new(NOW) }, fixed(seed));
            for count in counts {
                let before = bag.clone();
                if bag.draw(count, NOW, &mut dice).is_err() {
                    prop_assert_eq!(&bag, &before);
                }
                prop_assert!(bag.gold >= 0);
                let cards: i64 = bag.cards.values().map(|s| s.count).sum();
                prop_assert_eq!(bag.gold + cards * GOLD_PER_CARD, gold);
            }
        }
    }
}
