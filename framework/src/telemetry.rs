//! Owns what a node tells its operator: log lines, panics as one line each, meters.

use std::{
    any::Any,
    cell::{Cell, RefCell},
    io::IsTerminal as _,
    panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind},
    sync::Once,
};

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

use crate::{config::LogFormat, limits::MEASURES_KEPT, tasks::Tasks};

/// Sends log lines to standard error, as `RUST_LOG` selects them (default: `info`).
///
/// # Errors
/// A sentence when `RUST_LOG` is not a filter.
pub(crate) fn start_logging(format: LogFormat) -> Result<(), String> {
    // actix tells at `info` that it starts and stops workers; the node says that itself. sqlx
    // tells at `info` that tables are there already.
    const QUIET: &str = "info,actix_server=warn,sqlx::postgres::notice=warn";
    let said = std::env::var("RUST_LOG").ok().filter(|said| !said.is_empty());
    let filter = EnvFilter::builder().parse(said.as_deref().unwrap_or(QUIET)).map_err(|e| {
        let said = said.unwrap_or_default();
        format!("RUST_LOG = {said}: {e}; write levels such as info or info,gate=debug")
    })?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        // A log that cannot be written, on a full disk say, must not take the games with it.
        .log_internal_errors(false)
        .with_writer(std::io::stderr);
    let started = match format {
        LogFormat::Text => lines.try_init(),
        LogFormat::Json => lines.json().try_init(),
    };
    if started.is_err() {
        tracing::debug!(target: "node", "logging was started by the program around this node");
    }
    Ok(())
}

// === Panics ===

/// What a handler that panicked had to say, with its place in the code.
#[derive(Debug)]
pub(crate) struct Panic(pub(crate) String);

thread_local! {
    static CAUGHT_HERE: Cell<bool> = const { Cell::new(false) };
    static LAST: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Runs a studio's code; a panic in it ends there.
#[inline]
pub(crate) fn catch<R>(code: impl FnOnce() -> R) -> Result<R, Panic> {
    CAUGHT_HERE.set(true);
    let result = catch_unwind(AssertUnwindSafe(code));
    CAUGHT_HERE.set(false);
    result.map_err(|payload| {
        let noted = LAST.take();
        Panic(noted.unwrap_or_else(|| text(payload.as_ref()).to_owned()))
    })
}

/// From now on a panic is one log line rather than a trace on standard error. Panics that
/// [`catch`] catches are left to its caller to log, once, with what it knows.
pub(crate) fn hook_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| std::panic::set_hook(Box::new(on_panic)));
}

fn on_panic(info: &PanicHookInfo<'_>) {
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    let line = format!("{} at {place}", text(info.payload()));
    if CAUGHT_HERE.get() {
        LAST.set(Some(line));
    } else {
        tracing::error!(target: "node", "panicked: {line}");
    }
}

fn text(payload: &(dyn Any + Send)) -> &str {
    payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

// === Meters ===

/// The meters of one node. Each node has a registry of its own, so that several in one process
/// do not count into each other.
#[derive(Clone)]
pub(crate) struct Meters {
    pub(crate) gate: GateMeters,
    pub(crate) link: LinkMeters,
    pub(crate) entity: EntityMeters,
    page: PrometheusHandle,
}

/// What a gate counts.
#[derive(Clone, Debug)]
pub(crate) struct GateMeters {
    pub(crate) connections: Gauge,
    pub(crate) sessions: Gauge,
    pub(crate) accepted: Counter,
    pub(crate) refused_connections: Counter,
    pub(crate) served: ServedMeters,
    pub(crate) tls_handshakes_failed: Counter,
    pub(crate) proxy_headers_refused: Counter,
    pub(crate) quic_refused: Counter,
    pub(crate) quic_retries: Counter,
    pub(crate) certificates_replaced: Counter,
    pub(crate) certificates_refused: Counter,
    pub(crate) frames_in: Counter,
    pub(crate) bytes_in: Counter,
    pub(crate) bytes_out: Counter,
    pub(crate) rate_limited: Counter,
    pub(crate) protocol_errors: Counter,
    pub(crate) kicked_slow: Counter,
    pub(crate) deadlines: Counter,
    pub(crate) not_forwarded: Counter,
    pub(crate) moves: Counter,
    pub(crate) sign_ins: Counter,
    pub(crate) sign_ins_refused: Counter,
    pub(crate) resumes: Counter,
    pub(crate) resumes_refused: Counter,
    pub(crate) datagrams_dropped: Counter,
}

/// Connections that came so far as to speak, by what carries them.
#[derive(Clone, Debug)]
pub(crate) struct ServedMeters {
    pub(crate) tcp: Counter,
    pub(crate) tcp_tls: Counter,
    pub(crate) ws: Counter,
    pub(crate) ws_tls: Counter,
    pub(crate) quic: Counter,
}

/// What the links to other nodes count.
#[derive(Clone, Debug)]
pub(crate) struct LinkMeters {
    pub(crate) up: Gauge,
    pub(crate) envelopes_in: Counter,
    pub(crate) bytes_in: Counter,
    pub(crate) bytes_out: Counter,
    pub(crate) refused: Counter,
    pub(crate) overflows: Counter,
    pub(crate) garbage: Counter,
    pub(crate) strangers: Counter,
    pub(crate) strangers_refused: Counter,
    pub(crate) dials_failed: Counter,
}

/// What became of messages that a client did not take in.
#[derive(Clone, Debug)]
pub(crate) struct LooseCounters {
    /// A later one of the same key took its place.
    pub(crate) replaced: Counter,
    /// There was no more room.
    pub(crate) dropped: Counter,
}

/// What the host of entities counts.
#[derive(Clone, Debug)]
pub(crate) struct EntityMeters {
    pub(crate) entities: Gauge,
    pub(crate) panics: Counter,
    pub(crate) stale_requests: Counter,
    pub(crate) loose: LooseCounters,
    pub(crate) saves_failed: Counter,
    pub(crate) room: RoomMeters,
}

/// What rooms count.
#[derive(Clone, Debug)]
pub(crate) struct RoomMeters {
    pub(crate) running: Gauge,
    pub(crate) members: Gauge,
    pub(crate) tick_seconds: Histogram,
    /// Begun when the next one was due already.
    pub(crate) ticks_late: Counter,
    pub(crate) ticks_left_out: Counter,
    pub(crate) panics: Counter,
    pub(crate) stale_requests: Counter,
    pub(crate) recordings_cut: Counter,
}

/// What ticks are told apart by, in seconds: from what nobody notices to a lost game.
const TICK_SECONDS: [f64; 12] =
    [0.0001, 0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0];

impl RoomMeters {
    /// In the registry of whoever calls.
    fn new() -> Self {
        Self {
            running: gauge!("room_running"),
            members: gauge!("room_members"),
            tick_seconds: histogram!("room_tick_seconds"),
            ticks_late: counter!("room_ticks_late_total"),
            ticks_left_out: counter!("room_ticks_left_out_total"),
            panics: counter!("room_handler_panics_total"),
            stale_requests: counter!("room_stale_requests_total"),
            recordings_cut: counter!("room_recordings_cut_total"),
        }
    }
}

impl Meters {
    pub(crate) fn new() -> Self {
        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Full("room_tick_seconds".to_owned()), &TICK_SECONDS)
            .expect("there are some")
            .build_recorder();
        let page = recorder.handle();
        metrics::with_local_recorder(&recorder, || Self {
            gate: GateMeters {
                connections: gauge!("gate_connections"),
                sessions: gauge!("gate_sessions"),
                accepted: counter!("gate_connections_accepted_total"),
                refused_connections: counter!("gate_connections_refused_total"),
                served: ServedMeters {
                    tcp: counter!("gate_connections_tcp_total"),
                    tcp_tls: counter!("gate_connections_tcp_tls_total"),
                    ws: counter!("gate_connections_ws_total"),
                    ws_tls: counter!("gate_connections_ws_tls_total"),
                    quic: counter!("gate_connections_quic_total"),
                },
                tls_handshakes_failed: counter!("gate_tls_handshakes_failed_total"),
                proxy_headers_refused: counter!("gate_proxy_headers_refused_total"),
                quic_refused: counter!("gate_quic_refused_total"),
                quic_retries: counter!("gate_quic_retries_total"),
                certificates_replaced: counter!("gate_certificates_replaced_total"),
                certificates_refused: counter!("gate_certificates_refused_total"),
                frames_in: counter!("gate_frames_in_total"),
                bytes_in: counter!("gate_bytes_in_total"),
                bytes_out: counter!("gate_bytes_out_total"),
                rate_limited: counter!("gate_frames_rate_limited_total"),
                protocol_errors: counter!("gate_protocol_errors_total"),
                kicked_slow: counter!("gate_sessions_kicked_slow_total"),
                deadlines: counter!("gate_requests_past_deadline_total"),
                not_forwarded: counter!("gate_requests_not_forwarded_total"),
                moves: counter!("gate_sessions_moved_total"),
                sign_ins: counter!("gate_sign_ins_total"),
                sign_ins_refused: counter!("gate_sign_ins_refused_total"),
                resumes: counter!("gate_resumes_total"),
                resumes_refused: counter!("gate_resumes_refused_total"),
                datagrams_dropped: counter!("gate_datagrams_dropped_total"),
            },
            link: LinkMeters {
                up: gauge!("link_up"),
                envelopes_in: counter!("link_envelopes_in_total"),
                bytes_in: counter!("link_bytes_in_total"),
                bytes_out: counter!("link_bytes_out_total"),
                refused: counter!("link_requests_refused_total"),
                overflows: counter!("link_overflows_total"),
                garbage: counter!("link_garbage_total"),
                strangers: counter!("link_strangers_total"),
                strangers_refused: counter!("link_strangers_refused_total"),
                dials_failed: counter!("link_dials_failed_total"),
            },
            entity: EntityMeters {
                entities: gauge!("entity_running"),
                panics: counter!("entity_handler_panics_total"),
                stale_requests: counter!("entity_stale_requests_total"),
                loose: LooseCounters {
                    replaced: counter!("entity_messages_replaced_total"),
                    dropped: counter!("entity_messages_dropped_total"),
                },
                saves_failed: counter!("entity_saves_failed_total"),
                room: RoomMeters::new(),
            },
            page,
        })
    }

    /// Adds up what was measured, every few seconds: what nobody reads would pile up otherwise.
    pub(crate) async fn add_up(self, tasks: Tasks) {
        loop {
            tokio::select! {
                biased; // stop before more work
                () = tasks.stopped() => return,
                () = tokio::time::sleep(MEASURES_KEPT) => self.page.run_upkeep(),
            }
        }
    }

    /// The page that Prometheus reads.
    pub(crate) fn page(&self) -> String {
        self.page.render()
    }
}

impl std::fmt::Debug for Meters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Meters")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_caught_with_its_text_and_its_place() {
        hook_panics();
        let caught: Result<(), Panic> = catch(|| panic!("no such card {}", 7));
        let Err(Panic(text)) = caught else { panic!("not caught") };
        assert!(text.starts_with("no such card 7 at ") && text.contains("telemetry.rs"), "{text}");
    }

    #[test]
    fn two_nodes_in_one_process_count_apart() {
        let (one, two) = (Meters::new(), Meters::new());
        one.gate.accepted.increment(3);
        assert!(one.page().contains("gate_connections_accepted_total 3"), "{}", one.page());
        assert!(!two.page().contains("gate_connections_accepted_total 3"), "{}", two.page());
    }
}
