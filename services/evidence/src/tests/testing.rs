//! A stand-in for the service of tests: it knows the states of some tests and nothing else.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex},
};

use aegis_error::Failure;
use aegis_proto::testing::v1::{
    testing_service_client::TestingServiceClient,
    testing_service_server::{TestingService, TestingServiceServer},
    *,
};
use aegis_rpc::RpcService;
use futures::stream::Empty;
use tonic::{Request, Response, Status};
use uuid::Uuid;

/// See the module.
#[derive(Clone, Default)]
pub(crate) struct Tests(Arc<Mutex<HashMap<String, VecDeque<&'static str>>>>);

impl Tests {
    /// A test that is in these states, one after the other each time that it is asked for; the last one stays.
    pub(crate) fn add(&self, states: &[&'static str]) -> Uuid {
        let id = Uuid::now_v7();
        self.set(id, states);
        id
    }

    pub(crate) fn set(&self, id: Uuid, states: &[&'static str]) {
        self.0.lock().unwrap().insert(id.to_string(), states.iter().copied().collect());
    }

    pub(crate) fn client(&self) -> TestingServiceClient<RpcService> {
        TestingServiceClient::new(aegis_rpc::local(TestingServiceServer::new(self.clone())))
    }
}

macro_rules! absent {
    ($($method:ident($request:ident) -> $answer:ident;)*) => {
        #[tonic::async_trait]
        impl TestingService for Tests {
            type ExportTestsStream = Empty<Result<ExportTestsResponse, Status>>;

            async fn get_test(&self, request: Request<GetTestRequest>) -> Result<Response<GetTestResponse>, Status> {
                let id = request.into_inner().id;
                let mut tests = self.0.lock().unwrap();
                let Some(states) = tests.get_mut(&id) else { return Err(Failure::not_found("test", id).into()) };
                let state = if states.len() > 1 { states.pop_front() } else { states.front().copied() };
                let (name, mitre_id) = ("Encoded command".into(), "T1059.001".into());
                let test = Test { id, state: state.unwrap().into(), name, mitre_id, ..Test::default() };
                Ok(Response::new(GetTestResponse { test: Some(test) }))
            }

            async fn export_tests(
                &self,
                _: Request<ExportTestsRequest>,
            ) -> Result<Response<Self::ExportTestsStream>, Status> {
                Err(Status::unimplemented("not in this stand-in"))
            }

            $(async fn $method(&self, _: Request<$request>) -> Result<Response<$answer>, Status> {
                Err(Status::unimplemented("not in this stand-in"))
            })*
        }
    };
}

absent! {
    list_tests(ListTestsRequest) -> ListTestsResponse;
    create_test(CreateTestRequest) -> CreateTestResponse;
    update_test(UpdateTestRequest) -> UpdateTestResponse;
    update_red(UpdateRedRequest) -> UpdateRedResponse;
    update_blue(UpdateBlueRequest) -> UpdateBlueResponse;
    update_remediation(UpdateRemediationRequest) -> UpdateRemediationResponse;
    move_test(MoveTestRequest) -> MoveTestResponse;
    cast_vote(CastVoteRequest) -> CastVoteResponse;
    get_timeline(GetTimelineRequest) -> GetTimelineResponse;
    add_comment(AddCommentRequest) -> AddCommentResponse;
    delete_test(DeleteTestRequest) -> DeleteTestResponse;
    change_tests(ChangeTestsRequest) -> ChangeTestsResponse;
    create_retest(CreateRetestRequest) -> CreateRetestResponse;
    get_retest_chain(GetRetestChainRequest) -> GetRetestChainResponse;
}
