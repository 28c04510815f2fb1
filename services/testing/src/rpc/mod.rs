//! The gRPC face of the service.

pub mod campaign;
pub mod convert;

use std::pin::Pin;

use aegis_auth::OpCtx;
use aegis_error::Failure;
use aegis_proto::testing::v1::{
    AddCommentRequest, AddCommentResponse, CastVoteRequest, CastVoteResponse, ChainLink, ChangeTestsRequest,
    ChangeTestsResponse, CreateRetestRequest, CreateRetestResponse, CreateTestRequest, CreateTestResponse,
    DeleteTestRequest, DeleteTestResponse, ExportTestsRequest, ExportTestsResponse, GetRetestChainRequest,
    GetRetestChainResponse, GetTestRequest, GetTestResponse, GetTimelineRequest, GetTimelineResponse, ListTestsRequest,
    ListTestsResponse, MoveTestRequest, MoveTestResponse, UpdateBlueRequest, UpdateBlueResponse, UpdateRedRequest,
    UpdateRedResponse, UpdateRemediationRequest, UpdateRemediationResponse, UpdateTestRequest, UpdateTestResponse,
    testing_service_server::TestingService,
};
use futures::{Stream, StreamExt, TryStreamExt};
use tonic::{Request, Response, Status};

use crate::{app::App, error::Error};

/// Answers the calls.
pub struct Rpc {
    app: App,
}

impl Rpc {
    /// Answers with what `app` does.
    pub fn new(app: App) -> Self {
        Rpc { app }
    }

    /// The answer; a refusal goes into the audit trail on the way.
    async fn answer<T>(&self, ctx: &OpCtx, method: &str, result: Result<T, Error>) -> Result<Response<T>, Status> {
        self.app.outbox().audited(self.app.db(), ctx, method, result).await.map(Response::new)
    }
}

#[tonic::async_trait]
impl TestingService for Rpc {
    async fn list_tests(&self, request: Request<ListTestsRequest>) -> Result<Response<ListTestsResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let result = self.app.list_tests(&ctx, request.into_inner().into()).await.map(|page| ListTestsResponse {
            tests: page.tests.iter().cloned().map(convert::test).collect(),
            next_page_token: page.next_page_token.clone(),
            total_size: page.total_size,
        });
        self.answer(&ctx, "ListTests", result).await
    }

    async fn get_test(&self, request: Request<GetTestRequest>) -> Result<Response<GetTestResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let result = self.app.get_test(&ctx, &request.into_inner().id).await;
        let result = result.map(|test| GetTestResponse { test: Some(convert::test(test)) });
        self.answer(&ctx, "GetTest", result).await
    }

    async fn create_test(&self, request: Request<CreateTestRequest>) -> Result<Response<CreateTestResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let result = self.app.create_test(&ctx, request.into_inner().into()).await;
        let result = result.map(|test| CreateTestResponse { test: Some(convert::test(test)) });
        self.answer(&ctx, "CreateTest", result).await
    }

    async fn update_test(&self, request: Request<UpdateTestRequest>) -> Result<Response<UpdateTestResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let result = self.app.update_test(&ctx, request.into_inner().into()).await;
        let result = result.map(|test| UpdateTestResponse { test: Some(convert::test(test)) });
        self.answer(&ctx, "UpdateTest", result).await
    }

    async fn update_red(&self, request: Request<UpdateRedRequest>) -> Result<Response<UpdateRedResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let result = self.app.update_red(&ctx, request.into_inner().into()).await;
        let result = result.map(|test| UpdateRedResponse { test: Some(convert::test(test)) });
        self.answer(&ctx, "UpdateRed", result).await
    }

    async fn update_blue(&self, request: Request<UpdateBlueRequest>) -> Result<Response<UpdateBlueResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let result = self.app.update_blue(&ctx, request.into_inner().into()).await;
        let result = result.map(|test| UpdateBlueResponse { test: Some(convert::test(test)) });
        self.answer(&ctx, "UpdateBlue", result).await
    }

    async fn update_remediation(
        &self,
        request: Request<UpdateRemediationRequest>,
    ) -> Result<Response<UpdateRemediationResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let result = self.app.update_remediation(&ctx, request.into_inner().into()).await;
        let result = result.map(|(test, retest)| UpdateRemediationResponse {
            test: Some(convert::test(test)),
            retest: retest.map(convert::test),
        });
        self.answer(&ctx, "UpdateRemediation", result).await
    }

    async fn move_test(&self, request: Request<MoveTestRequest>) -> Result<Response<MoveTestResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let request = request.into_inner();
        let result = self.app.move_test(&ctx, &request.id, &request.action).await;
        let result = result.map(|test| MoveTestResponse { test: Some(convert::test(test)) });
        self.answer(&ctx, "MoveTest", result).await
    }

    async fn cast_vote(&self, request: Request<CastVoteRequest>) -> Result<Response<CastVoteResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let result = self.app.cast_vote(&ctx, request.into_inner().into()).await;
        let result = result.map(|test| CastVoteResponse { test: Some(convert::test(test)) });
        self.answer(&ctx, "CastVote", result).await
    }

    async fn get_timeline(
        &self,
        request: Request<GetTimelineRequest>,
    ) -> Result<Response<GetTimelineResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let request = request.into_inner();
        let result =
            self.app.timeline(&ctx, &request.test_id, request.page_size, &request.page_token, request.skip).await.map(
                |page| GetTimelineResponse {
                    entries: page.entries.into_iter().map(convert::entry).collect(),
                    next_page_token: page.next_page_token,
                    total_size: page.total_size,
                },
            );
        self.answer(&ctx, "GetTimeline", result).await
    }

    async fn add_comment(&self, request: Request<AddCommentRequest>) -> Result<Response<AddCommentResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let request = request.into_inner();
        let result = self.app.add_comment(&ctx, &request.test_id, &request.text).await;
        let result = result.map(|entry| AddCommentResponse { entry: Some(convert::entry(entry)) });
        self.answer(&ctx, "AddComment", result).await
    }

    async fn delete_test(&self, request: Request<DeleteTestRequest>) -> Result<Response<DeleteTestResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let result = self.app.delete_test(&ctx, &request.into_inner().id).await;
        self.answer(&ctx, "DeleteTest", result.map(|()| DeleteTestResponse {})).await
    }

    async fn change_tests(
        &self,
        request: Request<ChangeTestsRequest>,
    ) -> Result<Response<ChangeTestsResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let request = request.into_inner();
        let result = self.app.change_tests(&ctx, &request.ids, request.change.into()).await;
        let result = result.map(|done| ChangeTestsResponse {
            tests: done.tests.into_iter().map(convert::test).collect(),
            changed: i32::try_from(done.changed).unwrap_or(i32::MAX),
        });
        self.answer(&ctx, "ChangeTests", result).await
    }

    async fn create_retest(
        &self,
        request: Request<CreateRetestRequest>,
    ) -> Result<Response<CreateRetestResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let result = self.app.create_retest(&ctx, &request.into_inner().test_id).await;
        let result = result.map(|test| CreateRetestResponse { test: Some(convert::test(test)) });
        self.answer(&ctx, "CreateRetest", result).await
    }

    async fn get_retest_chain(
        &self,
        request: Request<GetRetestChainRequest>,
    ) -> Result<Response<GetRetestChainResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let result = self.app.retest_chain(&ctx, &request.into_inner().test_id).await;
        let result = result.map(|chain| GetRetestChainResponse {
            links: chain
                .into_iter()
                .map(|link| ChainLink { test: Some(convert::test(link.test)), regression: link.regression })
                .collect(),
        });
        self.answer(&ctx, "GetRetestChain", result).await
    }

    type ExportTestsStream = Pin<Box<dyn Stream<Item = Result<ExportTestsResponse, Status>> + Send>>;

    async fn export_tests(
        &self,
        request: Request<ExportTestsRequest>,
    ) -> Result<Response<Self::ExportTestsStream>, Status> {
        let ctx = OpCtx::of(&request)?;
        let pages = self.app.export(&ctx).map(|pages| {
            pages
                .map_ok(|tests| ExportTestsResponse { tests: tests.into_iter().map(convert::test).collect() })
                .map_err(|error| Failure::from(error).into())
                .boxed()
        });
        self.answer(&ctx, "ExportTests", pages).await
    }
}
