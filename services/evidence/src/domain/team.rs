//! The side that a file speaks for.

use aegis_auth::Role;

/// The sides.
pub(crate) const TEAMS: &[&str] = &["red", "blue"];

/// The side of a role; none for those who stand on no side.
pub(crate) fn default_team(role: Role) -> Option<&'static str> {
    match role {
        Role::RedTech | Role::RedLead => Some("red"),
        Role::BlueTech | Role::BlueLead => Some("blue"),
        Role::Admin | Role::Viewer | Role::Service | Role::Sensor => None,
    }
}

/// Whether someone of this role may bring a file for a side: nobody speaks for the other one.
pub(crate) fn may_claim(role: Role, team: &str) -> bool {
    default_team(role).is_none_or(|own| own == team)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_speaks_for_the_other_side() {
        for (role, red, blue) in [
            (Role::Admin, true, true),
            (Role::RedTech, true, false),
            (Role::RedLead, true, false),
            (Role::BlueTech, false, true),
            (Role::BlueLead, false, true),
        ] {
            assert_eq!((may_claim(role, "red"), may_claim(role, "blue")), (red, blue), "{role}");
        }
    }
}
