//! The roles, spelled once.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// What a user may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Everything.
    Admin,
    /// Runs attacks.
    RedTech,
    /// Says what was detected.
    BlueTech,
    /// Signs for the red side.
    RedLead,
    /// Signs for the blue side.
    BlueLead,
    /// Reads.
    Viewer,
    /// A process of the product, not a person.
    Service,
    /// Faces attackers: hands events in and hears what it hosts, nothing else.
    Sensor,
}

impl Role {
    /// The roles that a person can have.
    pub const PEOPLE: [Role; 6] =
        [Role::Admin, Role::RedTech, Role::BlueTech, Role::RedLead, Role::BlueLead, Role::Viewer];

    /// The names of [`Role::PEOPLE`], for messages and checks.
    pub const NAMES: [&'static str; 6] = ["admin", "red_tech", "blue_tech", "red_lead", "blue_lead", "viewer"];

    /// Whether whoever has this role may do all that `other` may. Leads are not above the technicians of their
    /// side: each of the two may do things that the other may not.
    pub fn covers(self, other: Role) -> bool {
        let reads = self != Role::Sensor && other == Role::Viewer;
        other != Role::Service && (self == other || self == Role::Admin || reads)
    }

    /// The role that a key may be made for: those of people, and `sensor`.
    pub fn of_key(name: &str) -> Option<Role> {
        if name == Role::Sensor.as_str() { Some(Role::Sensor) } else { name.parse().ok() }
    }

    /// The name on every interface.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Admin => "admin",
            Role::RedTech => "red_tech",
            Role::BlueTech => "blue_tech",
            Role::RedLead => "red_lead",
            Role::BlueLead => "blue_lead",
            Role::Viewer => "viewer",
            Role::Service => "service",
            Role::Sensor => "sensor",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = ();

    /// Only the roles of people: `service` and `sensor` are never given to a user.
    fn from_str(name: &str) -> Result<Self, ()> {
        Role::PEOPLE.into_iter().find(|role| role.as_str() == name).ok_or(())
    }
}
