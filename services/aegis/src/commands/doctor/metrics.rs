//! What a process says of itself on `/metrics`.

/// A text as Prometheus reads it.
pub(super) struct Metrics<'a>(pub(super) &'a str);

impl<'a> Metrics<'a> {
    /// The samples of a name: labels and value.
    fn samples(&self, name: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
        self.0.lines().filter_map(move |line| {
            let rest = line.strip_prefix(name)?;
            let (labels, value) = match rest.strip_prefix('{') {
                Some(rest) => rest.rsplit_once('}')?,
                None => ("", rest.strip_prefix(' ')?),
            };
            Some((labels, value.trim().parse().ok()?))
        })
    }

    /// The highest value of a name.
    pub(super) fn highest(&self, name: &'a str) -> Option<f64> {
        self.samples(name).map(|(_, value)| value).max_by(f64::total_cmp)
    }

    /// The label with the highest value of a name, and that value.
    pub(super) fn worst(&self, name: &'a str, key: &str) -> Option<(&'a str, f64)> {
        let worst = self.samples(name).max_by(|a, b| a.1.total_cmp(&b.1))?;
        Some((label(worst.0, key)?, worst.1))
    }

    /// The version of the process.
    pub(super) fn version(&self) -> Option<&'a str> {
        self.samples("aegis_build_info").find_map(|(labels, _)| label(labels, "version"))
    }
}

/// The value of a label. Those that are asked for have no quotes in them.
fn label<'a>(labels: &'a str, key: &str) -> Option<&'a str> {
    labels.split(',').find_map(|pair| pair.strip_prefix(key)?.strip_prefix("=\"")?.strip_suffix('"'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_found_by_name_and_label() {
        let metrics = Metrics(
            "# HELP aegis_build_info Always 1.\n# TYPE aegis_build_info gauge\n\
             aegis_build_info{service_name=\"aegis\",version=\"0.1.0\"} 1\n\
             aegis_outbox_oldest_event_age_seconds{service_name=\"identity\"} 0\n\
             aegis_outbox_oldest_event_age_seconds{service_name=\"testing\"} 71.5\n\
             aegis_deception_sensors_attached 2\naegis_deception_sensors_attached_ever 9\n",
        );
        assert_eq!(metrics.version(), Some("0.1.0"));
        assert_eq!(metrics.worst("aegis_outbox_oldest_event_age_seconds", "service_name"), Some(("testing", 71.5)));
        assert_eq!(metrics.highest("aegis_deception_sensors_attached"), Some(2.0));
        assert_eq!(metrics.highest("aegis_nothing"), None);
    }
}
