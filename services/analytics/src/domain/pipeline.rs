//! Tests on their way from draft to validated or rejected: how many are where.

/// Where a test is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum State {
    Draft,
    RedExecuting,
    BlueEvaluating,
    InReview,
    Validated,
    Rejected,
}

impl State {
    pub(crate) const ALL: [State; 6] =
        [State::Draft, State::RedExecuting, State::BlueEvaluating, State::InReview, State::Validated, State::Rejected];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            State::Draft => "draft",
            State::RedExecuting => "red_executing",
            State::BlueEvaluating => "blue_evaluating",
            State::InReview => "in_review",
            State::Validated => "validated",
            State::Rejected => "rejected",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<State> {
        State::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

/// Tests by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pipeline([i64; 6]);

impl Pipeline {
    /// How many are in a state.
    pub(crate) fn of(&self, state: State) -> i64 {
        self.0[state as usize]
    }

    /// How many there are.
    pub(crate) fn total(&self) -> i64 {
        self.0.iter().sum()
    }

    /// Sets a count.
    pub(crate) fn set(&mut self, state: State, n: i64) {
        self.0[state as usize] = n;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_read_as_it_is_written() {
        for state in State::ALL {
            assert_eq!(State::parse(state.as_str()), Some(state));
        }
        assert_eq!(State::parse("Draft"), None);
    }

    #[test]
    fn every_state_has_a_count_of_its_own() {
        let mut pipeline = Pipeline::default();
        for (n, state) in (1..).zip(State::ALL) {
            pipeline.set(state, n);
        }
        assert_eq!(State::ALL.map(|state| pipeline.of(state)), [1, 2, 3, 4, 5, 6]);
        assert_eq!(pipeline.total(), 21);
    }
}
