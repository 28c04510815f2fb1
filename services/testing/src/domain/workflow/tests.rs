//! The state machine against a second writing of its rules, and against whatever anybody may try.

use proptest::prelude::*;

use super::*;

/// The edges of the workflow, written a second time.
const EDGES: [(State, State); 6] = [
    (State::Draft, State::RedExecuting),
    (State::RedExecuting, State::BlueEvaluating),
    (State::BlueEvaluating, State::InReview),
    (State::InReview, State::Validated),
    (State::InReview, State::Rejected),
    (State::Rejected, State::Draft),
];

fn stamp(n: u32) -> Stamp {
    Stamp {
        by: Uuid::from_u128(u128::from(n % 4) + 1),
        at: DateTime::UNIX_EPOCH + chrono::TimeDelta::minutes(n.into()),
    }
}

fn vote(sides: &[Side], approve: bool) -> Request {
    Request::Vote { sides: sides.to_vec(), approve, notes: None, result: None }
}

/// A test in each state, by legal requests alone.
fn in_state(state: State) -> Progress {
    let both = [Side::Red, Side::Blue];
    let way: &[Request] = &[
        Request::Move(Move::StartExecution),
        Request::Move(Move::SubmitRed),
        Request::Move(Move::SubmitBlue),
        vote(&both, state == State::Validated),
    ];
    let steps = State::ALL.iter().position(|known| *known == state).unwrap_or(0).min(4);
    way[..steps].iter().fold(Progress::draft(), |test, request| test.after(request, stamp(7)).unwrap())
}

/// What is true of every test, wherever it stands.
fn holds(test: &Progress) -> Result<(), TestCaseError> {
    let votes = [test.red.vote, test.blue.vote];
    let validated = test.state == State::Validated;
    prop_assert_eq!(validated, votes == [Vote::Approved; 2]);
    prop_assert_eq!(validated, test.validated_at.is_some());
    prop_assert_eq!(test.state == State::Rejected, votes.contains(&Vote::Rejected));
    if matches!(test.state, State::Draft | State::RedExecuting | State::BlueEvaluating) {
        prop_assert_eq!((&test.red, &test.blue), (&Voice::default(), &Voice::default()));
    }
    for voice in [&test.red, &test.blue] {
        let cast = voice.vote != Vote::Pending;
        prop_assert_eq!((cast, cast), (voice.by.is_some(), voice.at.is_some()));
        prop_assert!(cast || voice.notes.is_none());
    }
    prop_assert_eq!(test.execution_date.is_some(), test.executed_by.is_some());
    prop_assert!(test.state == State::Draft || test.executed_by.is_some());
    let handed_on = State::ALL.iter().position(|known| *known == test.state).unwrap();
    prop_assert_eq!(test.red_submitted_at.is_some(), handed_on >= 2);
    prop_assert_eq!(test.blue_submitted_at.is_some(), handed_on >= 3);
    Ok(())
}

fn requests() -> impl Strategy<Value = Request> {
    let sides = prop::sample::select(vec![vec![Side::Red], vec![Side::Blue], vec![Side::Red, Side::Blue]]);
    let result = prop::option::of(prop::sample::select(DETECTION_RESULTS.to_vec()));
    let votes = (sides, prop::bool::weighted(0.7), prop::option::of("[a-z]{1,8}"), result).prop_map(
        |(sides, approve, notes, result)| Request::Vote { sides, approve, notes, result: result.map(str::to_owned) },
    );
    prop_oneof![prop::sample::select(Move::ALL.to_vec()).prop_map(Request::Move), votes]
}

proptest! {
    #[test]
    fn nothing_that_anybody_asks_leaves_the_workflow(asked in prop::collection::vec(requests(), 0..80)) {
        let mut test = Progress::draft();
        for (n, request) in asked.into_iter().enumerate() {
            let stamp = stamp(u32::try_from(n).unwrap());
            let before = test.clone();
            match before.after(&request, stamp) {
                Ok(next) => {
                    prop_assert!(next.state == before.state || EDGES.contains(&(before.state, next.state)));
                    // Only votes leave a test where it is, and only in review.
                    let voted = matches!(request, Request::Vote { .. });
                    prop_assert!(next.state != before.state || (voted && next.state == State::InReview));
                    prop_assert!(!voted || before.state == State::InReview);
                    test = next;
                }
                Err(refused) => {
                    prop_assert_eq!(refused.current, before.state);
                    prop_assert!(!EDGES.contains(&(before.state, refused.target)));
                }
            }
            holds(&test)?;
            if before.state == State::Validated {
                prop_assert_eq!(&test, &before, "a validated test stays as it is");
            }
            match &request {
                Request::Vote { sides, approve, notes, result } if before.state == State::InReview => {
                    for side in [Side::Red, Side::Blue] {
                        if sides.contains(&side) {
                            let vote = if *approve { Vote::Approved } else { Vote::Rejected };
                            let voice =
                                Voice { vote, notes: notes.clone(), by: Some(stamp.by), at: Some(stamp.at) };
                            prop_assert_eq!(test.voice(side), &voice, "a second vote replaces the first");
                        } else {
                            prop_assert_eq!(test.voice(side), before.voice(side));
                        }
                    }
                    let result = if *approve { result.as_ref() } else { None };
                    prop_assert_eq!(test.detection_result.as_ref(), result.or(before.detection_result.as_ref()));
                    prop_assert!(*approve || test.state == State::Rejected, "a rejection ends the review at once");
                }
                Request::Move(Move::Reopen) if before.state == State::Rejected => {
                    let fresh = Progress {
                        execution_date: before.execution_date,
                        executed_by: before.executed_by,
                        detection_result: before.detection_result.clone(),
                        ..Progress::draft()
                    };
                    prop_assert_eq!(&test, &fresh, "reopening clears the whole validation, and nothing else");
                }
                Request::Move(Move::SubmitRed) if before.state == State::RedExecuting => {
                    let next = Progress { state: State::BlueEvaluating, red_submitted_at: Some(stamp.at), ..before };
                    prop_assert_eq!(&test, &next);
                }
                Request::Move(Move::SubmitBlue) if before.state == State::BlueEvaluating => {
                    let next = Progress { state: State::InReview, blue_submitted_at: Some(stamp.at), ..before };
                    prop_assert_eq!(&test, &next);
                }
                Request::Move(Move::StartExecution) if before.state == State::Draft => {
                    prop_assert_eq!((test.execution_date, test.executed_by), (Some(stamp.at), Some(stamp.by)));
                }
                _ => {
                    prop_assert_eq!((test.execution_date, test.executed_by), (before.execution_date, before.executed_by));
                    prop_assert_eq!(&test.detection_result, &before.detection_result);
                }
            }
        }
    }

    #[test]
    fn of_the_same_request_asked_again_and_again_one_is_granted(
        state in prop::sample::select(State::ALL.to_vec()),
        step in prop::sample::select(Move::ALL.to_vec()),
    ) {
        let mut test = in_state(state);
        let granted = (0..8).filter(|n| match test.after(&Request::Move(step), stamp(*n)) {
            Ok(next) => {
                test = next;
                true
            }
            Err(_) => false,
        });
        prop_assert_eq!(granted.count(), usize::from(EDGES.contains(&(state, step.target()))));
    }

    #[test]
    fn a_regression_is_worse_than_the_validated_one_before_it(
        chain in prop::collection::vec(
            (prop::sample::select(State::ALL.to_vec()), prop::option::of(0..3usize)),
            0..7,
        ),
    ) {
        let named = chain.iter().map(|(state, rank)| (*state, rank.map(|rank| DETECTION_RESULTS[rank])));
        let flags = regressions(named);
        prop_assert_eq!(flags.len(), chain.len());
        for (n, flag) in flags.into_iter().enumerate() {
            let counts = |(state, rank): &(State, Option<usize>)| rank.filter(|_| *state == State::Validated);
            let before = chain[..n].iter().rev().find_map(counts);
            let expected = matches!((counts(&chain[n]), before), (Some(now), Some(before)) if now > before);
            prop_assert_eq!(flag, expected);
        }
    }
}

#[test]
fn each_state_can_be_reached_and_moves_only_along_the_edges() {
    for state in State::ALL {
        let test = in_state(state);
        assert_eq!(test.state, state);
        holds(&test).unwrap();
        for step in Move::ALL {
            let edge = EDGES.contains(&(state, step.target()));
            assert_eq!(test.after(&Request::Move(step), stamp(1)).is_ok(), edge, "{step:?} in {state:?}");
        }
        for approve in [true, false] {
            let voted = test.after(&vote(&[Side::Red], approve), stamp(1));
            assert_eq!(voted.is_ok(), state == State::InReview, "a vote in {state:?}");
        }
        let followers: Vec<State> = EDGES.iter().filter(|(from, _)| *from == state).map(|(_, to)| *to).collect();
        assert_eq!(state.valid_transitions(), followers);
    }
}

#[test]
fn a_refusal_reads_as_the_reference_shows_it() {
    let refused = |state, request| in_state(state).after(&request, stamp(1)).unwrap_err().to_string();
    assert_eq!(
        refused(State::Draft, vote(&[Side::Red], true)),
        "Cannot transition from 'draft' to 'validated'. Valid transitions: ['red_executing']"
    );
    assert_eq!(
        refused(State::InReview, Request::Move(Move::Reopen)),
        "Cannot transition from 'in_review' to 'draft'. Valid transitions: ['validated', 'rejected']"
    );
    assert_eq!(
        refused(State::Validated, vote(&[Side::Blue], false)),
        "Cannot transition from 'validated' to 'rejected'. Valid transitions: []"
    );
}

#[test]
fn names_lead_back_to_their_states() {
    for (state, name) in State::ALL.into_iter().zip(State::NAMES) {
        assert_eq!(state.as_str(), name);
        assert_eq!(State::try_from(name.to_owned()), Ok(state));
    }
    assert!(State::try_from("done".to_owned()).is_err());
    assert!(Vote::try_from("maybe".to_owned()).is_err());
}

#[test]
fn what_may_be_done_depends_on_the_state_as_the_table_says() {
    // Columns as in `State::ALL`.
    let table = [
        (Deed::Describe, "y----y"),
        (Deed::WriteRed, "yy----"),
        (Deed::WriteBlue, "--y---"),
        (Deed::Remedy, "yyyyyy"),
        (Deed::Assign, "yyyyyy"),
        (Deed::Delete, "y----y"),
        (Deed::Retest, "----yy"),
    ];
    for (deed, row) in table {
        for (state, cell) in State::ALL.into_iter().zip(row.chars()) {
            assert_eq!(state.allows(deed).is_ok(), cell == 'y', "{deed:?} in {state:?}");
        }
    }
    assert_eq!(
        State::InReview.allows(Deed::Retest).unwrap_err().to_string(),
        "a retest can be made only of a test in validated or rejected, and this test is in in_review"
    );
}

#[test]
fn handing_over_names_each_result_that_is_missing() {
    let none = Written::default();
    assert_eq!(Move::SubmitRed.missing(none), ["attack_success", "red_summary"]);
    assert_eq!(Move::SubmitBlue.missing(none), ["detection_result", "blue_summary"]);
    assert!(Move::StartExecution.missing(none).is_empty() && Move::Reopen.missing(none).is_empty());
    let red = Written { attack_success: true, red_summary: true, ..none };
    assert!(Move::SubmitRed.missing(red).is_empty());
    assert_eq!(Move::SubmitBlue.missing(Written { blue_summary: true, ..red }), ["detection_result"]);
}

#[test]
fn a_retest_is_called_for_after_an_end_that_was_not_fully_detected() {
    for state in State::ALL {
        for result in [None, Some("detected"), Some("partially_detected"), Some("not_detected")] {
            let test = Progress { detection_result: result.map(str::to_owned), ..in_state(state) };
            let ended = matches!(state, State::Validated | State::Rejected);
            assert_eq!(test.calls_for_retest(), ended && result != Some("detected"), "{state:?} {result:?}");
        }
    }
}
