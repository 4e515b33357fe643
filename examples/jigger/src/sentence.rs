//! Owns the rules of the game: words are dealt, and laid in turn into one sentence. Pure functions;
//! who sits where, and who is told what, is left to `table`.

/// A kind of words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    Noun,
    Verb,
    Adjective,
    Adverb,
}

/// A word that may be dealt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Word {
    pub(crate) text: &'static str,
    pub(crate) class: Class,
}

/// Who plays, by its account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hand {
    pub(crate) account: i64,
    pub(crate) words: Vec<Word>,
    pub(crate) score: i32,
}

/// A game that is on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Game {
    pub(crate) hands: Vec<Hand>,
    /// The sentence. At most as many words as were dealt.
    pub(crate) laid: Vec<Word>,
    /// Whose turn it is: an index into `hands`.
    pub(crate) turn: usize,
    /// Who laid a word last.
    last: Option<i64>,
    /// How many have passed since.
    passed: usize,
}

/// Why nothing was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// It is another's turn.
    Turn,
    /// Not a word of one's hand.
    Word,
    /// Not a place in the sentence, or beside a word of its own class.
    Place,
}

/// Words that each is dealt.
pub(crate) const WORDS_PER_HAND: usize = 8;

impl Game {
    /// Deals to each; who begins is drawn.
    pub(crate) fn deal(accounts: &[i64], mut random: impl FnMut() -> u64) -> Self {
        let mut word = || WORDS[below(WORDS.len(), random())];
        let hands = accounts.iter().map(|&account| Hand {
            account,
            words: (0..WORDS_PER_HAND).map(|_| word()).collect(),
            score: 0,
        });
        let hands: Vec<_> = hands.collect();
        let turn = below(hands.len().max(1), random());
        Self { hands, laid: Vec::new(), turn, last: None, passed: 0 }
    }

    /// Lays a word of one's hand at a place of the sentence: not beside one of its own class.
    pub(crate) fn lay(&mut self, account: i64, word: u64, place: i32) -> Result<(), Refused> {
        let hand = self.in_turn(account)?;
        let index = usize::try_from(word).map_err(|_| Refused::Word)?;
        let word = *self.hands[hand].words.get(index).ok_or(Refused::Word)?;
        let place = usize::try_from(place).map_err(|_| Refused::Place)?;
        let (before, behind) = self.laid.split_at_checked(place).ok_or(Refused::Place)?;
        let beside = before.last().into_iter().chain(behind.first());
        if beside.into_iter().any(|other| other.class == word.class) {
            return Err(Refused::Place);
        }
        self.hands[hand].words.remove(index);
        self.laid.insert(place, word);
        (self.last, self.passed) = (Some(account), 0);
        self.next_turn();
        Ok(())
    }

    /// Passes. When all have, who laid a word last scores the length of the sentence, and another
    /// begins.
    pub(crate) fn pass(&mut self, account: i64) -> Result<(), Refused> {
        self.in_turn(account)?;
        self.passed += 1;
        if self.passed >= self.hands.len() {
            let length = i32::try_from(self.laid.len()).unwrap_or(i32::MAX);
            let last = self.last.take();
            if let Some(hand) = self.hands.iter_mut().find(|hand| Some(hand.account) == last) {
                hand.score = hand.score.saturating_add(length);
            }
            self.laid.clear();
            self.passed = 0;
        }
        self.next_turn();
        Ok(())
    }

    /// Somebody is gone, and its words with it.
    pub(crate) fn leave(&mut self, account: i64) {
        let Some(at) = self.hands.iter().position(|hand| hand.account == account) else { return };
        self.hands.remove(at);
        if self.turn > at {
            self.turn -= 1;
        }
        self.turn = self.turn.checked_rem(self.hands.len()).unwrap_or_default();
        self.passed = self.passed.min(self.hands.len().saturating_sub(1));
    }

    /// Somebody has laid all words, or nobody is left to play with.
    pub(crate) fn is_over(&self) -> bool {
        self.hands.len() < 2 || self.hands.iter().any(|hand| hand.words.is_empty())
    }

    fn in_turn(&self, account: i64) -> Result<usize, Refused> {
        let hand = self.hands.get(self.turn).filter(|hand| hand.account == account);
        hand.map(|_| self.turn).ok_or(Refused::Turn)
    }

    fn next_turn(&mut self) {
        self.turn = (self.turn + 1).checked_rem(self.hands.len()).unwrap_or_default();
    }
}

impl Class {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Noun => "noun",
            Self::Verb => "verb",
            Self::Adjective => "adjective",
            Self::Adverb => "adverb",
        }
    }
}

fn below(count: usize, random: u64) -> usize {
    // The bias of `%` on 64 bits is below 10⁻¹⁷ here.
    (random % count as u64) as usize
}

const fn word(text: &'static str, class: Class) -> Word {
    Word { text, class }
}

const WORDS: [Word; 16] = [
    word("masons", Class::Noun),
    word("bakers", Class::Noun),
    word("towers", Class::Noun),
    word("bridges", Class::Noun),
    word("markets", Class::Noun),
    word("build", Class::Verb),
    word("guard", Class::Verb),
    word("cross", Class::Verb),
    word("admire", Class::Verb),
    word("old", Class::Adjective),
    word("tall", Class::Adjective),
    word("quiet", Class::Adjective),
    word("busy", Class::Adjective),
    word("slowly", Class::Adverb),
    word("gladly", Class::Adverb),
    word("often", Class::Adverb),
];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::vec, prelude::*};

    fn game(words: &[&[usize]]) -> Game {
        let hand = |(n, words): (usize, &&[usize])| Hand {
            account: n as i64 + 1,
            words: words.iter().map(|word| WORDS[*word]).collect(),
            score: 0,
        };
        let hands = words.iter().enumerate().map(hand).collect();
        Game { hands, laid: Vec::new(), turn: 0, last: None, passed: 0 }
    }

    #[test]
    fn words_are_laid_in_turn_and_not_beside_their_own_class() {
        let mut game = game(&[&[0, 1, 5], &[2, 6]]);
        assert_eq!(game.lay(2, 0, 0), Err(Refused::Turn));
        assert_eq!(game.lay(1, 3, 0), Err(Refused::Word));
        assert_eq!(game.lay(1, 0, 1), Err(Refused::Place));
        assert_eq!(game.lay(1, 0, -1), Err(Refused::Place));
        assert_eq!(game.lay(1, 0, 0), Ok(()));
        assert_eq!(game.lay(2, 0, 0), Err(Refused::Place), "noun beside noun");
        assert_eq!(game.lay(2, 1, 1), Ok(()));
        let laid: Vec<_> = game.laid.iter().map(|word| word.text).collect();
        assert_eq!((laid, game.turn), (vec!["masons", "guard"], 0));
        assert_eq!(game.hands[0].words.len(), 2);
    }

    #[test]
    fn when_all_have_passed_the_last_who_laid_scores_the_sentence() {
        let mut game = game(&[&[0, 1], &[5, 6]]);
        game.lay(1, 0, 0).expect("in turn");
        game.lay(2, 0, 1).expect("in turn");
        game.pass(1).expect("in turn");
        game.pass(2).expect("in turn");
        assert_eq!((game.hands[0].score, game.hands[1].score), (0, 2));
        assert_eq!((game.laid.len(), game.turn), (0, 0));
    }

    #[test]
    fn it_is_over_when_a_hand_is_empty_or_one_is_alone() {
        let mut game = game(&[&[0], &[5, 6], &[1]]);
        assert!(!game.is_over());
        game.lay(1, 0, 0).expect("in turn");
        assert!(game.is_over());
        game.leave(1);
        assert!(!game.is_over());
        game.leave(3);
        assert!(game.is_over());
        game.leave(2);
        assert_eq!((game.turn, game.pass(2)), (0, Err(Refused::Turn)));
    }

    #[derive(Clone, Copy, Debug)]
    enum Move {
        Lay(i64, u64, i32),
        Pass(i64),
        Leave(i64),
    }

    fn moves() -> impl Strategy<Value = Move> {
        let who = 0..6_i64;
        prop_oneof![
            8 => (who.clone(), 0..10_u64, -1..12).prop_map(|(a, w, p)| Move::Lay(a, w, p)),
            4 => who.clone().prop_map(Move::Pass),
            1 => who.prop_map(Move::Leave),
        ]
    }

    proptest! {
        #[test]
        fn no_word_comes_from_nowhere_and_a_refused_move_changes_nothing(
            seats in 2..5_i64,
            moves in vec(moves(), 0..200),
            seed: u64,
        ) {
            let mut n = seed;
            let mut game = Game::deal(&(1..=seats).collect::<Vec<_>>(), || { n = n.wrapping_mul(3) ^ 7; n });
            for made in moves {
                let before = game.clone();
                let count = |game: &Game| {
                    game.laid.len() + game.hands.iter().map(|hand| hand.words.len()).sum::<usize>()
                };
                let done = match made {
                    Move::Lay(account, word, place) => game.lay(account, word, place),
                    Move::Pass(account) => game.pass(account),
                    Move::Leave(account) => { game.leave(account); Ok(()) }
                };
                if done.is_err() {
                    prop_assert_eq!(&game, &before);
                }
                prop_assert!(count(&game) <= count(&before));
                prop_assert!(game.hands.is_empty() || game.turn < game.hands.len());
                prop_assert!(game.laid.windows(2).all(|two| two[0].class != two[1].class));
            }
        }
    }
}
