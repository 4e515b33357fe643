//! Owns the buffers that nobody uses just now. A thousand players that each kept their own would
//! write to one after the other, and find none of them in a cache; and those who say nothing would
//! hold what somebody else could use.

use std::cell::RefCell;

use crate::limits::{SPARE_BUFFERS_MAX, SPARE_BYTES_MAX};

thread_local! {
    /// The one that was used last is taken first.
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// Gives a buffer that has no room yet that of another.
#[inline]
pub(crate) fn take(buffer: &mut Vec<u8>) {
    if buffer.capacity() == 0
        && let Some(spare) = SPARE.with_borrow_mut(Vec::pop)
    {
        *buffer = spare;
    }
}

/// Empties a buffer, and gives its room to whoever wants some next.
#[inline]
pub(crate) fn give(buffer: &mut Vec<u8>) {
    if buffer.capacity() == 0 {
        return;
    }
    let mut spare = std::mem::take(buffer);
    if spare.capacity() > SPARE_BYTES_MAX {
        return;
    }
    // Not where the thread ends.
    let _kept = SPARE.try_with(|all| {
        let mut all = all.borrow_mut();
        if all.len() < SPARE_BUFFERS_MAX {
            spare.clear();
            all.push(spare);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_used_again_empty_and_never_by_two() {
        let mut one = vec![1; 100];
        let at = one.as_ptr();
        give(&mut one);
        assert_eq!(one.capacity(), 0);
        let (mut two, mut three) = (Vec::new(), Vec::new());
        take(&mut two);
        take(&mut three);
        assert_eq!((two.as_ptr(), two.len(), three.capacity()), (at, 0, 0));
    }

    #[test]
    fn a_large_buffer_is_not_kept_nor_more_than_so_many() {
        give(&mut vec![1; SPARE_BYTES_MAX + 1]);
        (0..2 * SPARE_BUFFERS_MAX).for_each(|_| give(&mut vec![1; 10]));
        let kept = SPARE.with_borrow(|all| all.iter().map(Vec::capacity).sum::<usize>());
        assert_eq!(kept, 10 * SPARE_BUFFERS_MAX);
    }
}
