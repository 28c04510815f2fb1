//! The one table of error codes.

use http::StatusCode;
use tonic::Code as Grpc;

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $grpc:ident, $http:ident;)*) => {
        /// What went wrong, as every interface names it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code {
            $($(#[$doc])* $variant,)*
        }

        impl Code {
            /// All codes, in the order of the table.
            pub const ALL: &'static [Code] = &[$(Code::$variant,)*];

            /// The `code` of an error body and the `reason` of an `ErrorInfo`.
            pub fn name(self) -> &'static str {
                match self { $(Code::$variant => $name,)* }
            }

            /// The status of a gRPC answer.
            pub fn grpc(self) -> Grpc {
                match self { $(Code::$variant => Grpc::$grpc,)* }
            }

            /// The status of an HTTP answer.
            pub fn http(self) -> StatusCode {
                match self { $(Code::$variant => StatusCode::$http,)* }
            }

            /// The code of that name, if there is one.
            pub fn from_name(name: &str) -> Option<Code> {
                match name { $($name => Some(Code::$variant),)* _ => None }
            }
        }
    };
}

codes! {
    /// A field does not validate; the field errors say which.
    Validation = "VALIDATION_ERROR", InvalidArgument, BAD_REQUEST;
    /// The workflow has no such move from the current state.
    InvalidTransition = "INVALID_TRANSITION", FailedPrecondition, BAD_REQUEST;
    /// The state of the entity does not allow this change.
    InvalidState = "INVALID_STATE", FailedPrecondition, BAD_REQUEST;
    /// No token, or one that does not hold.
    Unauthenticated = "UNAUTHENTICATED", Unauthenticated, UNAUTHORIZED;
    /// Wrong username or password.
    InvalidCredentials = "INVALID_CREDENTIALS", Unauthenticated, UNAUTHORIZED;
    /// Signed in, but not allowed.
    Forbidden = "FORBIDDEN", PermissionDenied, FORBIDDEN;
    /// The password must be changed before anything else.
    PasswordChangeRequired = "PASSWORD_CHANGE_REQUIRED", PermissionDenied, FORBIDDEN;
    /// No such entity.
    NotFound = "NOT_FOUND", NotFound, NOT_FOUND;
    /// The path exists, the method does not.
    MethodNotAllowed = "METHOD_NOT_ALLOWED", Unimplemented, METHOD_NOT_ALLOWED;
    /// The entity exists already.
    Duplicate = "DUPLICATE", AlreadyExists, CONFLICT;
    /// Somebody else was faster, or the change would break a rule that spans entities.
    Conflict = "CONFLICT", Aborted, CONFLICT;
    /// `If-Match` names an older version.
    PreconditionFailed = "PRECONDITION_FAILED", FailedPrecondition, PRECONDITION_FAILED;
    /// The body or the file is larger than the limit.
    TooLarge = "PAYLOAD_TOO_LARGE", OutOfRange, PAYLOAD_TOO_LARGE;
    /// The part of a file that is asked for is not in it; `size` says how long it is.
    RangeNotSatisfiable = "RANGE_NOT_SATISFIABLE", OutOfRange, RANGE_NOT_SATISFIABLE;
    /// The body is of a type that the route does not take.
    UnsupportedMediaType = "UNSUPPORTED_MEDIA_TYPE", InvalidArgument, UNSUPPORTED_MEDIA_TYPE;
    /// An idempotency key was used again with another body, or a document cannot be read.
    Unprocessable = "UNPROCESSABLE", InvalidArgument, UNPROCESSABLE_ENTITY;
    /// The publisher of a data source cannot be reached; nothing of the product is down.
    SourceUnreachable = "SOURCE_UNREACHABLE", FailedPrecondition, FAILED_DEPENDENCY;
    /// Too many requests; `retry_after` says when to come back.
    RateLimited = "RATE_LIMITED", ResourceExhausted, TOO_MANY_REQUESTS;
    /// The disk or the store is full.
    StorageFull = "STORAGE_FULL", ResourceExhausted, INSUFFICIENT_STORAGE;
    /// A dependency is down; trying again later may help.
    Unavailable = "SERVICE_UNAVAILABLE", Unavailable, SERVICE_UNAVAILABLE;
    /// The deadline passed.
    Timeout = "DEADLINE_EXCEEDED", DeadlineExceeded, GATEWAY_TIMEOUT;
    /// A fault of ours; the log has the cause.
    Internal = "INTERNAL_ERROR", Internal, INTERNAL_SERVER_ERROR;
}

impl Code {
    /// The code for a gRPC status that came without an `ErrorInfo` (from a transport, a proxy or a library).
    pub fn from_grpc(code: Grpc) -> Code {
        match code {
            Grpc::InvalidArgument => Code::Validation,
            Grpc::Unauthenticated => Code::Unauthenticated,
            Grpc::PermissionDenied => Code::Forbidden,
            Grpc::NotFound => Code::NotFound,
            Grpc::AlreadyExists => Code::Duplicate,
            Grpc::Aborted => Code::Conflict,
            Grpc::FailedPrecondition => Code::InvalidState,
            Grpc::OutOfRange => Code::TooLarge,
            Grpc::ResourceExhausted => Code::RateLimited,
            Grpc::Unavailable => Code::Unavailable,
            Grpc::DeadlineExceeded | Grpc::Cancelled => Code::Timeout,
            _ => Code::Internal,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_leads_back_to_its_code() {
        for &code in Code::ALL {
            assert_eq!(Code::from_name(code.name()), Some(code));
        }
    }
}
