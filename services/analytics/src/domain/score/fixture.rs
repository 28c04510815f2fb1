//! Matrices for tests.

use std::sync::Arc;

use uuid::Uuid;

use super::{Weights, domain_place};
use crate::domain::{
    Status,
    matrix::{Actor, Control, Framework, Knowledge, Matrix, MatrixTechnique, Tactic, Verdicts},
};

/// The same for the same name.
fn uuid(name: &str) -> Uuid {
    Uuid::from_u128(name.bytes().fold(0, |number, byte| number << 8 | u128::from(byte)))
}

/// A technique of the enterprise matrix, of execution, without platforms and tests.
pub(crate) fn technique(mitre_id: &str, status: Status) -> MatrixTechnique {
    MatrixTechnique {
        id: uuid(mitre_id),
        mitre_id: mitre_id.into(),
        name: format!("Name of {mitre_id}"),
        domain: "enterprise".into(),
        tactics: vec!["execution".into()],
        platforms: Vec::new(),
        parent_mitre_id: None,
        status,
        active: true,
        revoked_by: None,
        attack_version: Some("19.0".into()),
        tests: Verdicts::default(),
    }
}

pub(crate) fn actor(key: &str, techniques: &[&str]) -> Actor {
    Actor {
        id: uuid(key),
        key: key.into(),
        name: format!("Name of {key}"),
        techniques: techniques.iter().map(|id| (*id).into()).collect(),
    }
}

pub(crate) fn control(id: &str, family: &str, techniques: &[&str]) -> Control {
    Control {
        uuid: uuid(id),
        framework: "nist_800_53".into(),
        id: id.into(),
        name: format!("Name of {id}"),
        family: family.into(),
        parent: id.split_once('(').map_or_else(String::new, |(parent, _)| parent.to_owned()),
        techniques: techniques.iter().map(|id| (*id).into()).collect(),
    }
}

pub(crate) fn framework() -> Framework {
    Framework {
        key: "nist_800_53".into(),
        name: "NIST SP 800-53".into(),
        version: "rev5".into(),
        attack_version: "16.1".into(),
        mapping_source: "CTID Mappings Explorer".into(),
    }
}

/// With three tactics of the enterprise matrix and one of ICS.
pub(crate) fn matrix(mut techniques: Vec<MatrixTechnique>) -> Matrix {
    techniques.sort_by(|a, b| (&a.mitre_id, domain_place(&a.domain)).cmp(&(&b.mitre_id, domain_place(&b.domain))));
    let tactic = |domain: &str, short_name: &str, position: i32| Tactic {
        domain: domain.into(),
        short_name: short_name.into(),
        name: short_name.to_uppercase(),
        mitre_id: format!("TA{position:04}"),
        position,
    };
    let knowledge = Knowledge {
        tactics: vec![
            tactic("enterprise", "initial-access", 0),
            tactic("enterprise", "execution", 1),
            tactic("enterprise", "persistence", 2),
            tactic("ics", "impair-process-control", 0),
        ],
        ..Knowledge::default()
    };
    Matrix {
        as_of: None,
        weights: Weights::default(),
        techniques,
        knowledge: Arc::new(knowledge),
        observed: Arc::default(),
    }
}
