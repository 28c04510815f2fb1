//! A failure on its way to the caller: a code, a sentence, the fields it names; and its form on the wire.

use std::{borrow::Cow, collections::HashMap, error::Error as StdError, fmt, time::Duration};

use tonic::Status;
use tonic_types::{ErrorDetails, StatusExt};

use crate::Code;

/// The `domain` of an `ErrorInfo`.
const DOMAIN: &str = "aegis";

/// One field of a request and what was wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// Name as the request spells it, dotted where nested.
    pub field: String,
    /// What was wrong and what is right, as a sentence without a full stop.
    pub problem: String,
}

/// What a caller is told when something did not work.
///
/// The source is for the log; it never reaches the client.
#[derive(Debug)]
pub struct Failure(Box<Inner>);

#[derive(Debug)]
struct Inner {
    code: Code,
    message: Cow<'static, str>,
    fields: Vec<FieldError>,
    metadata: HashMap<String, String>,
    retry_after: Option<Duration>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Failure {
    /// A failure with a code and a sentence for the caller.
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Failure(Box::new(Inner {
            code,
            message: message.into(),
            fields: Vec::new(),
            metadata: HashMap::new(),
            retry_after: None,
            source: None,
        }))
    }

    /// One field does not validate.
    pub fn invalid(field: impl Into<String>, problem: impl Into<String>) -> Self {
        let mut fields = Fields::default();
        fields.add(field, problem);
        fields.into_failure(Code::Validation)
    }

    /// No entity of that kind has that id.
    pub fn not_found(kind: &str, id: impl fmt::Display) -> Self {
        let id: String = id.to_string().chars().take(80).collect();
        Failure::new(Code::NotFound, format!("{kind} '{id}' does not exist"))
    }

    /// Signed in, but not allowed.
    pub fn forbidden(message: impl Into<Cow<'static, str>>) -> Self {
        Failure::new(Code::Forbidden, message)
    }

    /// A dependency is down.
    pub fn unavailable(what: &str) -> Self {
        Failure::new(Code::Unavailable, format!("{what} is not reachable; try again in a moment"))
            .with_retry_after(Duration::from_secs(2))
    }

    /// A fault of ours. The caller gets a sentence that says nothing of the cause; the log gets the cause.
    pub fn internal(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Failure::new(Code::Internal, "something went wrong on our side; the log has the cause under this request id")
            .with_source(source)
    }

    /// Adds a name and value that the caller may need (`current_state`, the id of the first copy …).
    pub fn with(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.0.metadata.insert(key.into(), value.into());
        self
    }

    /// Adds when to try again.
    pub fn with_retry_after(mut self, after: Duration) -> Self {
        self.0.retry_after = Some(after);
        self
    }

    /// Adds the cause, for the log.
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// What went wrong.
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// The sentence for the caller.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The fields that did not validate.
    pub fn fields(&self) -> &[FieldError] {
        &self.0.fields
    }

    /// A value added by [`Failure::with`].
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.metadata.get(key).map(String::as_str)
    }

    /// When to try again.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// Whether trying the same again can help (the store was busy or away).
    pub fn is_transient(&self) -> bool {
        matches!(self.0.code, Code::Unavailable | Code::Timeout | Code::Internal)
    }

    fn log(&self) {
        if let Some(source) = &self.0.source {
            let chain = Chain(source.as_ref());
            match self.0.code {
                Code::Internal => tracing::error!(code = self.0.code.name(), cause = %chain, "request failed"),
                _ => tracing::warn!(code = self.0.code.name(), cause = %chain, "request failed"),
            }
        }
    }
}

/// The whole chain of causes in one line.
struct Chain<'a>(&'a (dyn StdError + Send + Sync));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut next = self.0.source();
        while let Some(cause) = next {
            write!(f, ": {cause}")?;
            next = cause.source();
        }
        Ok(())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        if let Some(source) = &self.0.source {
            write!(f, ": {}", Chain(source.as_ref()))?;
        }
        Ok(())
    }
}

impl StdError for Failure {}

/// Collects what is wrong with the fields of a request, so that the caller hears of all at once.
#[derive(Debug, Default)]
pub struct Fields(Vec<FieldError>);

impl Fields {
    /// Notes that a field is wrong.
    pub fn add(&mut self, field: impl Into<String>, problem: impl Into<String>) {
        self.0.push(FieldError { field: field.into(), problem: problem.into() });
    }

    /// Notes a field as wrong unless `good`.
    pub fn check(&mut self, good: bool, field: &str, problem: &str) {
        if !good {
            self.add(field, problem);
        }
    }

    /// Notes a text that is empty, longer than `max` characters, or has control characters other than line breaks and tabs.
    pub fn text(&mut self, field: &str, value: &str, min: usize, max: usize) {
        let length = value.chars().count();
        if length < min || length > max {
            self.add(field, format!("must have {min} to {max} characters, not {length}"));
        } else if value.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
            self.add(field, "must not contain control characters");
        }
    }

    /// Notes a value that is none of `allowed`.
    pub fn one_of(&mut self, field: &str, value: &str, allowed: &[&str]) {
        if !allowed.contains(&value) {
            self.add(field, format!("must be one of {}", allowed.join(", ")));
        }
    }

    /// Fails when anything was noted.
    pub fn finish(self) -> Result<(), Failure> {
        if self.0.is_empty() { Ok(()) } else { Err(self.into_failure(Code::Validation)) }
    }

    /// The failure with what was noted, whatever it is called.
    pub fn into_failure(self, code: Code) -> Failure {
        let sentence = self.0.iter().map(|e| format!("{}: {}", e.field, e.problem)).collect::<Vec<_>>().join("; ");
        let mut failure = Failure::new(code, sentence);
        failure.0.fields = self.0;
        failure
    }
}

impl From<Failure> for Status {
    fn from(failure: Failure) -> Status {
        failure.log();
        let inner = *failure.0;
        let mut details = ErrorDetails::new();
        details.set_error_info(inner.code.name(), DOMAIN, inner.metadata);
        for field in inner.fields {
            details.add_bad_request_violation(field.field, field.problem);
        }
        if let Some(after) = inner.retry_after {
            details.set_retry_info(Some(after));
        }
        Status::with_error_details(inner.code.grpc(), inner.message, details)
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Failure {
        let details = status.check_error_details().unwrap_or_default();
        let info = details.error_info();
        let code = info
            .filter(|info| info.domain == DOMAIN)
            .and_then(|info| Code::from_name(&info.reason))
            .unwrap_or_else(|| Code::from_grpc(status.code()));
        // A text that did not come from a `Failure` may name hosts, files or SQL.
        let ours = info.is_some_and(|info| info.domain == DOMAIN);
        let message = match (ours, code) {
            (true, _) => status.message().to_owned(),
            (false, Code::Unavailable) => "a part of the product is not reachable; try again in a moment".into(),
            (false, Code::Timeout) => "the request took longer than its deadline".into(),
            (false, Code::Internal) => "something went wrong on our side; the log has the cause".into(),
            (false, _) => status.message().to_owned(),
        };
        let mut failure = Failure::new(code, message);
        if !ours {
            tracing::warn!(grpc = ?status.code(), message = status.message(), "a call failed below the services");
        }
        if let Some(info) = details.error_info() {
            failure.0.metadata = info.metadata.clone();
        }
        if let Some(bad) = details.bad_request() {
            failure.0.fields = bad
                .field_violations
                .iter()
                .map(|v| FieldError { field: v.field.clone(), problem: v.description.clone() })
                .collect();
        }
        failure.0.retry_after = details.retry_info().and_then(|r| r.retry_delay);
        if failure.0.retry_after.is_none() && code == Code::Unavailable {
            failure.0.retry_after = Some(Duration::from_secs(2));
        }
        failure
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_survives_the_wire_without_its_source() {
        let failure = Failure::invalid("name", "must have 1 to 200 characters, not 0")
            .with("current_state", "draft")
            .with_retry_after(Duration::from_secs(3))
            .with_source("password=hunter2");
        let status = Status::from(failure);
        assert_eq!(status.code(), tonic::Code::InvalidArgument);
        assert!(!format!("{status:?}").contains("hunter2"));
        let back = Failure::from(status);
        assert_eq!(back.code(), Code::Validation);
        assert_eq!(back.fields()[0].field, "name");
        assert_eq!(back.get("current_state"), Some("draft"));
        assert_eq!(back.retry_after(), Some(Duration::from_secs(3)));
    }

    #[test]
    fn a_strange_status_gives_away_nothing() {
        let back = Failure::from(Status::internal("relation \"users\" does not exist"));
        assert_eq!(back.code(), Code::Internal);
        assert!(!back.message().contains("users"));
    }
}
