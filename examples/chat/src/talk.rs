//! Owns what was said in a channel: which lines are taken, how many are kept, who says too much.
//! Pure functions; members, time and sending are left to the room.

use std::collections::{BTreeMap, VecDeque};

use bastide::{Code, LoadError, Refusal};
use prost::Message as _;

use crate::proto::chat::{Line, SavedChannel};

/// Lines that a channel remembers; the oldest go.
pub(crate) const LINES_MAX: usize = 200;

/// Bytes of them, names among them: what is saved each second when somebody talks. A channel of
/// long lines remembers fewer.
pub(crate) const BYTES_MAX: usize = 128 * 1024;

/// Lines of one answer.
pub(crate) const PAGE_LINES_MAX: usize = 50;

/// Bytes of one answer: with 200 members half of a frame (64 KiB) is left.
pub(crate) const PAGE_BYTES_MAX: usize = 32 * 1024;

/// Characters of one line.
pub(crate) const TEXT_CHARS_MAX: usize = 500;

/// Lines of one account in [`SPAN_MS`].
pub(crate) const RATE: usize = 5;

/// In milliseconds.
pub(crate) const SPAN_MS: i64 = 1000;

// The longest line fits in a page, and a page into what is kept.
const _: () = assert!(TEXT_CHARS_MAX * 4 + 256 < PAGE_BYTES_MAX && PAGE_BYTES_MAX < BYTES_MAX);

/// Who says something.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Speaker<'a> {
    pub(crate) account: i64,
    pub(crate) name: &'a str,
}

/// What was said in one channel.
#[derive(Debug, Default)]
pub(crate) struct Talk {
    /// Of the last line; the first is 1.
    number: u64,
    /// Oldest first.
    lines: VecDeque<Line>,
    bytes: usize,
    /// When each account said its last lines, by account. Not saved: after a restore everybody
    /// may talk.
    spoke: BTreeMap<i64, VecDeque<i64>>,
}

impl Talk {
    /// Takes a line.
    ///
    /// # Errors
    /// 210 when it is no line; 1007 when its speaker has said five in the last second.
    pub(crate) fn say(
        &mut self,
        who: Speaker<'_>,
        text: String,
        now_ms: i64,
    ) -> Result<Line, Refusal> {
        // At most four bytes each: what is much too long is not counted to its end.
        let chars = text.chars().take(TEXT_CHARS_MAX + 1).count();
        if chars == 0 || chars > TEXT_CHARS_MAX {
            return Err(Code::PARAMETER.because("text: 1 to 500 characters"));
        }
        if text.chars().any(char::is_control) {
            return Err(Code::PARAMETER.because("text: one line without control characters"));
        }
        self.count(who.account, now_ms)?;
        self.number += 1;
        let line = Line {
            number: self.number,
            st: now_ms,
            account: who.account,
            name: who.name.to_owned(),
            text,
        };
        self.keep(line.clone());
        Ok(line)
    }

    /// Earlier lines, oldest first: those before the number `before`, 0 for the newest.
    pub(crate) fn history(&self, before: u64) -> Vec<Line> {
        let mut bytes = 0;
        let earlier = self.lines.iter().rev().filter(|line| before == 0 || line.number < before);
        let page = earlier.take(PAGE_LINES_MAX).take_while(|line| {
            bytes += size(line);
            bytes <= PAGE_BYTES_MAX
        });
        let mut page: Vec<Line> = page.cloned().collect();
        page.reverse();
        page
    }

    /// Forgets who has not said anything for long.
    pub(crate) fn forget(&mut self, now_ms: i64) {
        self.spoke.retain(|_, times| times.back().is_some_and(|last| recent(*last, now_ms)));
    }

    pub(crate) fn save(&self) -> Vec<u8> {
        SavedChannel { number: self.number, lines: self.lines.iter().cloned().collect() }
            .encode_to_vec()
    }

    pub(crate) fn restore(saved: &[u8]) -> Result<Self, LoadError> {
        let SavedChannel { number, lines } = SavedChannel::decode(saved)?;
        let numbers = || lines.iter().map(|line| line.number);
        if !numbers().is_sorted_by(|a, b| a < b) || numbers().any(|of| of > number) {
            return Err(LoadError::new("the numbers of the lines are out of order"));
        }
        let mut talk = Self { number, ..Self::default() };
        lines.into_iter().for_each(|line| talk.keep(line));
        Ok(talk)
    }

    /// A line that is refused for its rate does not count.
    fn count(&mut self, account: i64, now_ms: i64) -> Result<(), Refusal> {
        let times = self.spoke.entry(account).or_default();
        while times.front().is_some_and(|first| !recent(*first, now_ms)) {
            times.pop_front();
        }
        if times.len() >= RATE {
            return Err(Code::RATE_LIMITED.because("five lines a second"));
        }
        times.push_back(now_ms);
        Ok(())
    }

    fn keep(&mut self, line: Line) {
        self.bytes += size(&line);
        self.lines.push_back(line);
        while self.lines.len() > LINES_MAX || self.bytes > BYTES_MAX {
            let Some(oldest) = self.lines.pop_front() else { break };
            self.bytes -= size(&oldest);
        }
    }
}

/// A line in a list: itself, its key and its length.
fn size(line: &Line) -> usize {
    line.encoded_len() + 4
}

/// A clock that was set back makes nobody wait.
fn recent(then_ms: i64, now_ms: i64) -> bool {
    (0..SPAN_MS).contains(&(now_ms - then_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANNA: Speaker<'static> = Speaker { account: 1, name: "Anna" };
    const BERT: Speaker<'static> = Speaker { account: 2, name: "Bert" };

    /// So many lines, one a second.
    fn talk(lines: i64, text: &str) -> Talk {
        let mut talk = Talk::default();
        for second in 0..lines {
            talk.say(ANNA, text.to_owned(), second * 1000).expect("not too fast");
        }
        talk
    }

    fn numbers(lines: &[Line]) -> (u64, u64) {
        let of = |line: Option<&Line>| line.map_or(0, |line| line.number);
        (of(lines.first()), of(lines.last()))
    }

    #[test]
    fn a_line_has_1_to_500_characters_and_is_one_line() {
        let mut talk = Talk::default();
        for (wrong, why) in [
            (String::new(), "1 to 500"),
            ("é".repeat(501), "1 to 500"),
            ("two\nlines".to_owned(), "control"),
            ("\u{7}".to_owned(), "control"),
            ("\u{85}".to_owned(), "control"),
        ] {
            let refused = talk.say(ANNA, wrong, 0).expect_err("no line");
            assert_eq!(refused.code, Code::PARAMETER);
            assert!(refused.message.contains(why), "{refused}");
        }
        assert!(talk.history(0).is_empty());
        for good in ["?".to_owned(), "字".repeat(500)] {
            talk.say(ANNA, good, 0).expect("a line");
        }
        let line = talk.say(BERT, "hello".to_owned(), 7).expect("a line");
        let Line { number, st, account, name, text } = line;
        assert_eq!((number, st, account), (3, 7, 2));
        assert_eq!((name.as_str(), text.as_str()), ("Bert", "hello"));
    }

    #[test]
    fn the_sixth_line_within_a_second_is_refused_and_others_may_talk() {
        let mut talk = Talk::default();
        let mut say = |who, at| talk.say(who, "hi".to_owned(), at).map_err(|refusal| refusal.code);
        for at in [0, 100, 200, 300, 400] {
            say(ANNA, at).expect("five are good");
        }
        assert_eq!(say(ANNA, 999), Err(Code::RATE_LIMITED));
        say(BERT, 999).expect("its own rate");
        say(ANNA, 1000).expect("the first was a second ago");
        assert_eq!(say(ANNA, 1099), Err(Code::RATE_LIMITED), "what was refused did not count");
        say(ANNA, 1100).expect("so was the second");
    }

    #[test]
    fn a_clock_that_was_set_back_silences_nobody() {
        let mut talk = Talk::default();
        for _ in 0..5 {
            talk.say(ANNA, "hi".to_owned(), 3_600_000).expect("five are good");
        }
        talk.say(ANNA, "hi".to_owned(), 0).expect("an hour back");
    }

    #[test]
    fn who_said_nothing_in_the_last_second_is_forgotten() {
        let mut talk = Talk::default();
        talk.say(ANNA, "hi".to_owned(), 0).expect("a line");
        talk.say(BERT, "hi".to_owned(), 500).expect("a line");
        talk.forget(1000);
        assert_eq!(talk.spoke.keys().copied().collect::<Vec<_>>(), [BERT.account]);
    }

    #[test]
    fn a_channel_remembers_its_last_200_lines() {
        let talk = talk(250, "hi");
        assert_eq!(talk.lines.len(), 200);
        assert_eq!(talk.lines.front().map(|line| line.number), Some(51));
    }

    #[test]
    fn long_lines_are_remembered_up_to_their_bytes() {
        let talk = talk(200, &"字".repeat(500));
        assert_eq!(talk.bytes, talk.lines.iter().map(size).sum::<usize>());
        assert!(talk.bytes <= BYTES_MAX && talk.bytes > BYTES_MAX - 2000, "{}", talk.bytes);
        assert_eq!(talk.lines.back().map(|line| line.number), Some(200), "the newest are there");
        let page = talk.history(0);
        assert!(page.iter().map(size).sum::<usize>() <= PAGE_BYTES_MAX);
        assert!(page.len() > 15, "{}", page.len());
        assert_eq!(page.last().map(|line| line.number), Some(200));
    }

    #[test]
    fn history_is_read_backwards_a_page_at_a_time() {
        let talk = talk(120, "hi");
        assert_eq!(numbers(&talk.history(0)), (71, 120));
        assert_eq!(numbers(&talk.history(71)), (21, 70));
        assert_eq!(numbers(&talk.history(21)), (1, 20));
        assert!(talk.history(1).is_empty());
        assert_eq!(numbers(&talk.history(u64::MAX)), (71, 120));
    }

    #[test]
    fn a_channel_that_was_saved_goes_on_where_it_was() {
        let mut talk = talk(210, "hi");
        let mut back = Talk::restore(&talk.save()).expect("its own bytes");
        let line = talk.say(BERT, "on".to_owned(), 1_000_000).expect("a line");
        assert_eq!(back.say(BERT, "on".to_owned(), 1_000_000).expect("a line"), line);
        assert_eq!(line.number, 211);
        assert_eq!(back.save(), talk.save());
        assert_eq!(back.bytes, talk.bytes);
    }

    #[test]
    fn bytes_that_are_no_channel_are_refused() {
        assert!(Talk::restore(&[0xff]).is_err());
        let line = |number| Line { number, ..Line::default() };
        let saved = SavedChannel { number: 2, lines: vec![line(1), line(3)] };
        assert!(Talk::restore(&saved.encode_to_vec()).is_err());
        let saved = SavedChannel { number: 3, lines: vec![line(2), line(2)] };
        assert!(Talk::restore(&saved.encode_to_vec()).is_err());
    }
}
