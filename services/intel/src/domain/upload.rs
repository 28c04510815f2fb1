//! What is wrong with a file that a person brings.

/// One thing that is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct UploadProblem {
    /// 1 for the first line; 0 where it is about the whole file.
    pub line: u32,
    /// Such as `atomic_tests[2].executor.command`; empty where it is none.
    pub field: String,
    /// What is wrong, in words for the person.
    pub problem: String,
}

impl UploadProblem {
    /// A problem of one line.
    pub fn at(line: u32, field: impl Into<String>, problem: impl Into<String>) -> Self {
        UploadProblem { line, field: field.into(), problem: problem.into() }
    }

    /// A problem of the whole file.
    pub fn of_file(problem: impl Into<String>) -> Self {
        UploadProblem::at(0, "", problem)
    }
}
