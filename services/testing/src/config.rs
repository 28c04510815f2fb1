//! Settings of the service.

/// Settings; the process fills them from its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// A side hands over only with its results: submit_red needs `attack_success` and `red_summary`, submit_blue
    /// `detection_result` and `blue_summary`.
    pub require_results: bool,
}
