//! Readers of detection rules: Sigma's and Elastic's archives, and the Sigma files that people bring.

mod collected;
mod condition;
mod elastic;
mod sigma;
mod upload;
mod validate;

#[cfg(test)]
mod elastic_tests;
#[cfg(test)]
mod real_data_tests;
#[cfg(test)]
mod sigma_tests;
#[cfg(test)]
mod upload_tests;

pub use elastic::ElasticReader;
pub use sigma::SigmaReader;
pub use upload::{MAX_UPLOAD_BYTES, MAX_UPLOAD_DOCUMENTS, parse_upload};
