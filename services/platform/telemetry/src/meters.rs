//! Metrics, declared where something is measured: a static each, registered when it is first used.
//!
//! Labels are of few values that are ours: a route's template, a method, a name; never an id or what a caller wrote. None
//! is called `job`, `instance` or `service`: Prometheus has labels of these names for whom it asks.

use std::sync::OnceLock;

use prometheus::{
    GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, Opts,
    core::{Collector, MetricVec, MetricVecBuilder},
};

/// From half a millisecond, a call inside the process, to ten seconds, the usual deadline.
pub const CALLS: &[f64] = &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// From a millisecond to ten minutes: how long something is behind.
pub const LAGS: &[f64] = &[0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 600.0];
/// From ten milliseconds to an hour: work in the background.
pub const JOBS: &[f64] = &[0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0];

/// Counters that differ in their labels.
pub struct Counters {
    about: About,
    made: OnceLock<Option<IntCounterVec>>,
}

/// Gauges that differ in their labels.
pub struct Gauges {
    about: About,
    made: OnceLock<Option<GaugeVec>>,
}

/// Histograms that differ in their labels.
pub struct Histograms {
    about: About,
    buckets: &'static [f64],
    made: OnceLock<Option<HistogramVec>>,
}

struct About {
    name: &'static str,
    help: &'static str,
    labels: &'static [&'static str],
}

impl Counters {
    /// Counters of this name, which ends in `_total`, and with these labels.
    pub const fn new(name: &'static str, help: &'static str, labels: &'static [&'static str]) -> Self {
        Counters { about: About { name, help, labels }, made: OnceLock::new() }
    }

    /// Adds to the counter with these values of the labels, in their order.
    pub fn add(&self, values: &[&str], n: u64) {
        if let Some(counter) = self.of(values) {
            counter.inc_by(n);
        }
    }

    /// Adds one.
    pub fn inc(&self, values: &[&str]) {
        self.add(values, 1);
    }

    fn of(&self, values: &[&str]) -> Option<prometheus::IntCounter> {
        let make = || IntCounterVec::new(Opts::new(self.about.name, self.about.help), self.about.labels);
        one(made(&self.made, &self.about, make), values)
    }
}

impl Gauges {
    /// Gauges of this name and with these labels.
    pub const fn new(name: &'static str, help: &'static str, labels: &'static [&'static str]) -> Self {
        Gauges { about: About { name, help, labels }, made: OnceLock::new() }
    }

    /// Sets the gauge with these values of the labels.
    pub fn set(&self, values: &[&str], value: f64) {
        if let Some(gauge) = self.of(values) {
            gauge.set(value);
        }
    }

    /// Changes the gauge by this much.
    pub fn add(&self, values: &[&str], delta: f64) {
        if let Some(gauge) = self.of(values) {
            gauge.add(delta);
        }
    }

    /// One more until what is given is dropped.
    #[must_use]
    pub fn hold(&self, values: &[&str]) -> Held {
        let gauge = self.of(values);
        if let Some(gauge) = &gauge {
            gauge.inc();
        }
        Held(gauge)
    }

    fn of(&self, values: &[&str]) -> Option<prometheus::Gauge> {
        let make = || GaugeVec::new(Opts::new(self.about.name, self.about.help), self.about.labels);
        one(made(&self.made, &self.about, make), values)
    }
}

/// See [`Gauges::hold`].
#[derive(Debug)]
pub struct Held(Option<prometheus::Gauge>);

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(gauge) = &self.0 {
            gauge.dec();
        }
    }
}

impl Histograms {
    /// Histograms of this name, with these labels and these upper bounds.
    pub const fn new(
        name: &'static str,
        help: &'static str,
        labels: &'static [&'static str],
        buckets: &'static [f64],
    ) -> Self {
        Histograms { about: About { name, help, labels }, buckets, made: OnceLock::new() }
    }

    /// Adds a value, seconds mostly.
    pub fn observe(&self, values: &[&str], value: f64) {
        if let Some(histogram) = self.of(values) {
            histogram.observe(value);
        }
    }

    /// Makes it known before there is a value.
    pub fn declare(&self, values: &[&str]) {
        let _ = self.of(values);
    }

    fn of(&self, values: &[&str]) -> Option<prometheus::Histogram> {
        let make = || {
            let opts = HistogramOpts::new(self.about.name, self.about.help).buckets(self.buckets.to_vec());
            HistogramVec::new(opts, self.about.labels)
        };
        one(made(&self.made, &self.about, make), values)
    }
}

/// The family, registered with the first call. A fault in it, which a test would see, costs the metric and nothing else.
fn made<'a, V>(
    cell: &'a OnceLock<Option<V>>,
    about: &About,
    make: impl FnOnce() -> prometheus::Result<V>,
) -> Option<&'a V>
where
    V: Collector + Clone + 'static,
{
    let family = cell.get_or_init(|| {
        let family = make().and_then(|family| {
            prometheus::register(Box::new(family.clone()))?;
            Ok(family)
        });
        family.inspect_err(|error| tracing::error!(%error, name = about.name, "not measured")).ok()
    });
    family.as_ref()
}

fn one<B: MetricVecBuilder>(family: Option<&MetricVec<B>>, values: &[&str]) -> Option<B::M> {
    family?.get_metric_with_label_values(values).ok()
}
