//! Nanoseconds and allocations of the steps that every message takes: cut, put, dispatch.
//!
//! `cargo bench --bench micro`. Goals: cut at most 25 ns without an allocation; dispatch (look
//! up, decode, handle, encode) at most 200 ns.

use bastide::{
    __bench::{Dispatcher, TokenCheck},
    Named,
    wire::{Cut, FRAME_BYTES_MAX, cut, put_message},
};
use bastide_benches::{Nobody, Req, Res, game, request};
use divan::{AllocProfiler, Bencher, black_box};

#[global_allocator]
static ALLOCATIONS: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

/// As many frames as one read brings at depth 32; times are per item, that is, per frame.
const FRAMES: usize = 32;

fn frames() -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..FRAMES {
        put_message(&mut bytes, &request()).expect("fits");
    }
    bytes
}

#[divan::bench]
fn cut_frames(bencher: Bencher<'_, '_>) {
    let bytes = frames();
    bencher.counter(divan::counter::ItemsCount::new(FRAMES)).bench(|| {
        let mut rest = &bytes[..];
        let mut payload_bytes = 0;
        while let Ok(Cut::Frame(frame)) = cut(black_box(rest), FRAME_BYTES_MAX) {
            payload_bytes += frame.payload.len();
            rest = &rest[frame.bytes.len()..];
        }
        payload_bytes
    });
}

#[divan::bench]
fn put_frames(bencher: Bencher<'_, '_>) {
    let answer = Res { text: request().text };
    let mut out = Vec::with_capacity(FRAMES * 128);
    bencher.counter(divan::counter::ItemsCount::new(FRAMES)).bench_local(|| {
        out.clear();
        for _ in 0..FRAMES {
            put_message(&mut out, black_box(&answer)).expect("fits");
        }
        out.len()
    });
}

#[divan::bench]
fn dispatch(bencher: Bencher<'_, '_>) {
    let bytes = frames();
    let mut dispatcher = Dispatcher::new(game(), Nobody);
    assert_eq!(dispatcher.dispatch(&bytes), FRAMES, "every {} is answered", Req::NAME);
    bencher
        .counter(divan::counter::ItemsCount::new(FRAMES))
        .bench_local(|| dispatcher.dispatch(black_box(&bytes)));
}

/// What a gate does with the token of a sign-in.
#[divan::bench]
fn token_check(bencher: Bencher<'_, '_>) {
    let token = TokenCheck::new();
    assert!(token.check(), "it is good");
    bencher.bench(|| black_box(&token).check());
}
