//! The roles that a process can have, and who calls whom.

use std::fmt;

use aegis_events::Subscription;
use clap::ValueEnum;

/// A part of the product that can run in a process of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum)]
pub enum Role {
    /// Users, tokens, notifications, audit trail.
    Identity,
    /// Techniques, tactics, templates.
    Catalog,
    /// Tests and their workflow.
    Testing,
    /// Files.
    Evidence,
    /// Data sources and syncs.
    Intel,
    /// Coverage and metrics.
    Analytics,
    /// The fleet of decoys.
    Deception,
    /// REST and pages.
    Gateway,
}

impl Role {
    /// Every role.
    pub const ALL: [Role; 8] = [
        Role::Identity,
        Role::Catalog,
        Role::Testing,
        Role::Evidence,
        Role::Intel,
        Role::Analytics,
        Role::Deception,
        Role::Gateway,
    ];

    /// Those that others call and that have a database.
    pub const SERVICES: [Role; 7] =
        [Role::Identity, Role::Catalog, Role::Testing, Role::Evidence, Role::Intel, Role::Analytics, Role::Deception];

    /// The name on the command line, in settings and of the database schema.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Identity => "identity",
            Role::Catalog => "catalog",
            Role::Testing => "testing",
            Role::Evidence => "evidence",
            Role::Intel => "intel",
            Role::Analytics => "analytics",
            Role::Deception => "deception",
            Role::Gateway => "gateway",
        }
    }

    /// Whom it calls, besides identity, which all ask for keys.
    pub fn calls(self) -> &'static [Role] {
        match self {
            Role::Identity | Role::Catalog => &[],
            Role::Analytics => &[Role::Catalog, Role::Testing, Role::Deception],
            Role::Testing | Role::Deception => &[Role::Catalog],
            Role::Intel => &[Role::Catalog, Role::Analytics],
            Role::Evidence => &[Role::Testing],
            Role::Gateway => &Role::SERVICES,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Who listens to which events, in the whole product.
pub fn topology() -> Vec<Subscription> {
    vec![
        aegis_identity::SUBSCRIPTION,
        aegis_catalog::SUBSCRIPTION,
        aegis_testing::SUBSCRIPTION,
        aegis_analytics::SUBSCRIPTION,
        aegis_evidence::SUBSCRIPTION,
        aegis_deception::SUBSCRIPTION,
    ]
}
