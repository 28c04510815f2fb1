//! Coverage as people look at it: the ATT&CK matrix and charts as SVG, and a board's page as HTML.
//!
//! Everything here is pure: a picture is a function of the [`Matrix`] or [`Report`] that it is given. Whatever comes from
//! the catalogue is escaped where it is written, and control characters, which no XML may have, are left out. Nothing
//! refers to anything outside the document, and nothing in it runs.
//!
//! No colour stands alone: each has a letter or a figure beside it, and what is not covered is hatched too.

mod chart;
mod layout;
mod model;
mod page;
mod picture;
mod scale;
mod text;

pub use model::{Actor, Actors, Change, Counts, Gap, Matrix, Part, Point, Report, Status, Tactic, Technique};
pub use page::html;
pub use picture::svg;
pub use scale::{Class, Metric};
