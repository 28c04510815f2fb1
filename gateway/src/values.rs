//! Values of the interface: names of states, roles and the like, times, fields that a PATCH may clear.

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, Utc};
use prost_types::Timestamp;
use serde::{Deserialize, Deserializer, de};

/// An enumeration whose names are spelled once: for reading, for the services and for the document.
macro_rules! names {
    ($($(#[$doc:meta])* $name:ident { $($variant:ident = $text:literal),* $(,)? })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, utoipa::ToSchema)]
        pub enum $name {
            $(#[doc = $text] #[schema(rename = $text)] $variant,)*
        }

        impl $name {
            /// The name on every interface.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.as_str().to_owned()
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                match String::deserialize(deserializer)?.as_str() {
                    $($text => Ok(Self::$variant),)*
                    _ => Err(de::Error::custom(format!("must be one of {}", [$($text),*].join(", ")))),
                }
            }
        }
    )*};
}

names! {
    /// Status of a technique.
    TechniqueStatus {
        NotEvaluated = "not_evaluated",
        InProgress = "in_progress",
        Validated = "validated",
        Partial = "partial",
        NotCovered = "not_covered",
    }
    /// Part of ATT&CK.
    Domain { Enterprise = "enterprise", Mobile = "mobile", Ics = "ics" }
    /// State of a test.
    TestState {
        Draft = "draft",
        RedExecuting = "red_executing",
        BlueEvaluating = "blue_evaluating",
        InReview = "in_review",
        Validated = "validated",
        Rejected = "rejected",
    }
    /// One of the two teams.
    Team { Red = "red", Blue = "blue" }
    /// What became of a file's bytes since it was brought.
    EvidenceStatus { Intact = "intact", Altered = "altered", Missing = "missing" }
    /// What the blue side saw of an attack.
    DetectionResult {
        Detected = "detected",
        NotDetected = "not_detected",
        PartiallyDetected = "partially_detected",
    }
    /// What a lead decides.
    Decision { Approved = "approved", Rejected = "rejected" }
    /// What a lead has decided so far.
    Vote { Pending = "pending", Approved = "approved", Rejected = "rejected" }
    /// How far a remediation is.
    RemediationStatus {
        Pending = "pending",
        InProgress = "in_progress",
        Completed = "completed",
        NotApplicable = "not_applicable",
    }
    /// How bad a success of the attack is.
    Severity {
        Informational = "informational",
        Low = "low",
        Medium = "medium",
        High = "high",
        Critical = "critical",
    }
    /// Where a time comes from: a person, another system, the product's own clock.
    TimeSource { Typed = "typed", Imported = "imported", Stamped = "stamped" }
    /// A move of a test that takes nothing but the test.
    Move {
        StartExecution = "start_execution",
        SubmitRed = "submit_red",
        SubmitBlue = "submit_blue",
        Reopen = "reopen",
    }
    /// What a campaign is for.
    CampaignType {
        Custom = "custom",
        AptEmulation = "apt_emulation",
        KillChain = "kill_chain",
        Compliance = "compliance",
    }
    /// Where a campaign is in its life.
    CampaignStatus { Draft = "draft", Active = "active", Completed = "completed", Archived = "archived" }
    /// What has started a run of a campaign.
    RunTrigger { Scheduled = "scheduled", Manual = "manual" }
    /// What came of a run of a campaign.
    RunStatus { Created = "created", Failed = "failed" }
    /// What a user may do.
    Role {
        Admin = "admin",
        RedTech = "red_tech",
        BlueTech = "blue_tech",
        RedLead = "red_lead",
        BlueLead = "blue_lead",
        Viewer = "viewer",
    }
    /// What an API key may do: as a user with this role, or as a sensor, which hands events in and nothing else.
    KeyRole {
        Admin = "admin",
        RedTech = "red_tech",
        BlueTech = "blue_tech",
        RedLead = "red_lead",
        BlueLead = "blue_lead",
        Viewer = "viewer",
        Sensor = "sensor",
    }
    /// What a record of the knowledge base is.
    KnowledgeKind {
        ThreatActor = "threat_actor",
        Software = "software",
        Campaign = "campaign",
        Mitigation = "mitigation",
        DetectionStrategy = "detection_strategy",
        Analytic = "analytic",
        DataComponent = "data_component",
        Asset = "asset",
        DetectionRule = "detection_rule",
        Defence = "defence",
        Framework = "framework",
        Control = "control",
    }
    /// What a heatmap shows.
    HeatmapMetric {
        Status = "status",
        Score = "score",
        DetectionRules = "detection_rules",
        Observed = "observed",
    }
    /// Where an item of intelligence comes from.
    IntelKind { Kev = "kev", Feed = "feed" }
    /// How far back figures go.
    Period { Days30 = "30d", Days90 = "90d", Year = "1y" }
    /// How well a control is covered.
    ControlStatus {
        Covered = "covered",
        Partial = "partial",
        Gap = "gap",
        NotApplicable = "not_applicable",
    }
    /// Who has taken a snapshot: a person or the scheduler.
    SnapshotKind { Manual = "manual", Scheduled = "scheduled" }
    /// What a point of the score history is: the week's, or that of a snapshot.
    ScorePointKind { Weekly = "weekly", Snapshot = "snapshot" }
    /// What happened on a decoy.
    EventType {
        Connect = "connect",
        Disconnect = "disconnect",
        AuthAttempt = "auth_attempt",
        AuthSuccess = "auth_success",
        AuthFail = "auth_fail",
        Command = "command",
        Request = "request",
        Query = "query",
        DownloadAttempt = "download_attempt",
        FileCaptured = "file_captured",
        TlsClientHello = "tls_client_hello",
        Publish = "publish",
        Subscribe = "subscribe",
        MailFrom = "mail_from",
        RcptTo = "rcpt_to",
        MessageAccepted = "message_accepted",
        Scan = "scan",
        Unknown = "unknown",
    }
    /// What an attacker has left.
    BountyType { Credential = "credential", Fingerprint = "fingerprint", Payload = "payload" }
    /// What tells clients apart.
    FingerprintKind { Hassh = "hassh", Ja3 = "ja3", UserAgent = "user_agent", ClientBanner = "client_banner" }
    /// How attackers are put in order: by when they were last seen, by their events, by their deckies.
    AttackerSort { Recent = "recent", Active = "active", Traversals = "traversals" }
    /// What an attacker's timing looks like.
    BehaviorClass {
        Unknown = "unknown",
        SlowScan = "slow_scan",
        Scanning = "scanning",
        BruteForce = "brute_force",
        Beaconing = "beaconing",
        Interactive = "interactive",
        Mixed = "mixed",
    }
    /// How a decky is; unreachable when its sensor is away.
    DeckyStatus {
        Pending = "pending",
        Running = "running",
        Degraded = "degraded",
        Failed = "failed",
        Unreachable = "unreachable",
    }
    /// How a service of a decky is.
    DeckyServiceStatus { Pending = "pending", Running = "running", Failed = "failed", Stopped = "stopped" }
    /// Where deckies run.
    DecoyRuntime { Native = "native", Docker = "docker" }
    /// What an alert is about.
    AlertKind {
        FirstContact = "first_contact",
        CredentialWorks = "credential_works",
        FileCaptured = "file_captured",
        Traversal = "traversal",
    }
    /// Where a tagging rule comes from.
    TaggingSource { Builtin = "builtin", Sigma = "sigma" }
    /// Whose lines are brought in.
    IngestFormat { Cowrie = "cowrie", Opencanary = "opencanary", Syslog = "syslog" }
    /// How a job is going.
    JobStatus { Running = "running", Succeeded = "succeeded", Failed = "failed" }
}

/// A field of a PATCH: absent, `null` or a value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Change<T> {
    /// Absent: left alone.
    #[default]
    Keep,
    /// `null`: cleared.
    Clear,
    /// The new value.
    Set(T),
}

impl<T> Change<T> {
    /// The new value; notes `field` in `clear` where it is to be cleared.
    pub fn or_clear(self, field: &str, clear: &mut Vec<String>) -> Option<T> {
        match self {
            Change::Keep => None,
            Change::Clear => {
                clear.push(field.to_owned());
                None
            }
            Change::Set(value) => Some(value),
        }
    }

    /// Whether the field is absent.
    pub fn is_keep(&self) -> bool {
        matches!(self, Change::Keep)
    }

    /// The new value, and whether the field is to be cleared.
    pub fn parts(self) -> (Option<T>, bool) {
        match self {
            Change::Keep => (None, false),
            Change::Clear => (None, true),
            Change::Set(value) => (Some(value), false),
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Change<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Option::<T>::deserialize(deserializer)?.map_or(Change::Clear, Change::Set))
    }
}

/// A field of a PATCH that cannot be cleared: `null` is refused.
pub fn set<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// A moment in a body: RFC 3339.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment(pub DateTime<Utc>);

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match DateTime::parse_from_rfc3339(&text) {
            Ok(moment) => Ok(Moment(moment.to_utc())),
            Err(_) => Err(de::Error::custom("must be an RFC 3339 time such as 2024-01-31T12:00:00Z")),
        }
    }
}

impl From<Moment> for Timestamp {
    fn from(moment: Moment) -> Timestamp {
        Timestamp { seconds: moment.0.timestamp(), nanos: moment.0.timestamp_subsec_nanos() as i32 }
    }
}

/// A moment in a query where a range begins: RFC 3339, a time without a zone (UTC) or a day (its first moment).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Since(pub Moment);

/// The same where a range ends: a day is meant to its last moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Until(pub Moment);

impl<'de> Deserialize<'de> for Since {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        iso(&String::deserialize(deserializer)?, false).map(Since).map_err(de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Until {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        iso(&String::deserialize(deserializer)?, true).map(Until).map_err(de::Error::custom)
    }
}

fn iso(text: &str, last: bool) -> Result<Moment, &'static str> {
    // A `+` that was not escaped arrives as a space.
    let text = text.replacen(' ', "+", usize::from(text.contains('T')));
    if let Ok(moment) = DateTime::parse_from_rfc3339(&text) {
        return Ok(Moment(moment.to_utc()));
    }
    if let Ok(moment) = NaiveDateTime::parse_from_str(&text, "%Y-%m-%dT%H:%M:%S%.f") {
        return Ok(Moment(moment.and_utc()));
    }
    match NaiveDate::parse_from_str(&text, "%Y-%m-%d") {
        Ok(day) => {
            let first = day.and_time(NaiveTime::MIN).and_utc();
            let end = first.checked_add_signed(TimeDelta::days(1) - TimeDelta::microseconds(1));
            Ok(Moment(if last { end.unwrap_or(first) } else { first }))
        }
        Err(_) => Err("must be a day (2024-01-31) or a time (2024-01-31T12:00:00Z)"),
    }
}

/// A moment from a service, to the microsecond.
pub fn time(moment: Option<Timestamp>) -> Option<DateTime<Utc>> {
    let moment = moment?;
    let nanos = u32::try_from(moment.nanos).unwrap_or(0);
    DateTime::from_timestamp(moment.seconds, nanos / 1000 * 1000)
}

/// A moment that every entity has.
pub fn time_always(moment: Option<Timestamp>) -> DateTime<Utc> {
    time(moment).unwrap_or_default()
}

/// A text that is empty where there is nothing.
pub fn filled(text: String) -> Option<String> {
    if text.is_empty() { None } else { Some(text) }
}

/// A JSON document of a service; what cannot be read is null.
pub fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct Patch {
        #[serde(default)]
        email: Change<String>,
        #[serde(default, deserialize_with = "set")]
        role: Option<Role>,
    }

    #[test]
    fn absent_null_and_a_value_are_three_things() {
        let patch = |text| serde_json::from_str::<Patch>(text);
        assert_eq!(patch("{}").unwrap().email, Change::Keep);
        assert_eq!(patch(r#"{"email": null}"#).unwrap().email, Change::Clear);
        assert_eq!(patch(r#"{"email": "a@b.c"}"#).unwrap().email, Change::Set("a@b.c".into()));
        assert!(patch(r#"{"role": null}"#).is_err());
        assert_eq!(patch(r#"{"role": "viewer"}"#).unwrap().role, Some(Role::Viewer));
        let wrong = patch(r#"{"role": "king"}"#).unwrap_err().to_string();
        assert!(wrong.starts_with("must be one of admin, red_tech"), "{wrong}");
        assert!(!wrong.contains("king"));
    }

    #[test]
    fn the_ends_of_a_range_are_read_as_people_write_them() {
        let from = |text: &str| iso(text, false).map(|m| m.0.to_rfc3339());
        let until = |text: &str| iso(text, true).map(|m| m.0.to_rfc3339());
        assert_eq!(from("2024-01-31").unwrap(), "2024-01-31T00:00:00+00:00");
        assert_eq!(until("2024-01-31").unwrap(), "2024-01-31T23:59:59.999999+00:00");
        assert_eq!(from("2024-01-31T12:00:00").unwrap(), "2024-01-31T12:00:00+00:00");
        assert_eq!(from("2024-01-31T12:00:00 02:00").unwrap(), "2024-01-31T10:00:00+00:00");
        assert!(from("yesterday").is_err());
    }
}
