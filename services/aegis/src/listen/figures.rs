//! How many connections there are, and how they end that are not ended by their clients.

use aegis_telemetry::{Counters, Gauges};

use super::watch::Ending;

/// Connections that are open.
pub static OPEN: Gauges = Gauges::new("aegis_connections", "Connections that are open.", &[]);
/// Those that found no room, by the limit.
pub static REFUSED: Counters =
    Counters::new("aegis_connections_refused_total", "Connections that found no room.", &["limit"]);
static ENDED: Counters =
    Counters::new("aegis_connections_ended_total", "Connections that were ended for what they did.", &["why"]);

/// All of them are known from the start, at 0.
pub fn declare() {
    OPEN.add(&[], 0.0);
    for limit in ["all", "address"] {
        REFUSED.add(&[limit], 0);
    }
    for why in Ending::ALL {
        ENDED.add(&[why.name()], 0);
    }
}

/// One was ended.
pub fn ended(why: Ending) {
    ENDED.inc(&[why.name()]);
}
