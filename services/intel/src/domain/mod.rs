//! What the publishers' documents mean: pure readers, no network and no database.

pub mod stix;
