//! The layer that every service stands behind: it verifies the bearer and puts the [`OpCtx`] on the request.

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use aegis_error::{Code, Failure};
use futures::future::BoxFuture;
use http::{Request, Response, header::AUTHORIZATION, request::Parts};
use tonic::Status;
use tower::{Layer, Service};

use crate::{Conditions, OpCtx, Origin, Verifier};

/// Verifies the bearer of every call but those of `public` methods.
#[derive(Clone)]
pub struct AuthLayer {
    verifier: Verifier,
    public: Arc<[&'static str]>,
}

impl AuthLayer {
    /// `public`: paths of methods, such as `/aegis.identity.v1.IdentityService/Login`, that need no token.
    pub fn new(verifier: Verifier, public: &[&'static str]) -> Self {
        AuthLayer { verifier, public: public.into() }
    }
}

impl<S> Layer<S> for AuthLayer {
    type Service = Authenticated<S>;

    fn layer(&self, inner: S) -> Authenticated<S> {
        Authenticated { inner, layer: self.clone() }
    }
}

/// See [`AuthLayer`].
#[derive(Clone)]
pub struct Authenticated<S> {
    inner: S,
    layer: AuthLayer,
}

impl<S, B> Service<Request<B>> for Authenticated<S>
where
    S: Service<Request<B>, Response = Response<tonic::body::Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: Send + 'static,
{
    type Response = Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let layer = self.layer.clone();
        Box::pin(async move {
            let (mut head, body) = request.into_parts();
            match layer.context(&head).await {
                Ok(ctx) => {
                    head.extensions.insert(ctx);
                    inner.call(Request::from_parts(head, body)).await
                }
                Err(failure) => Ok(Status::from(failure).into_http()),
            }
        })
    }
}

impl AuthLayer {
    async fn context(&self, head: &Parts) -> Result<OpCtx, Failure> {
        let headers = &head.headers;
        let origin = Origin::from_headers(headers);
        // The edge of the rpc crate puts the moment at which the caller stops waiting here.
        let deadline = head.extensions.get::<Instant>().copied();
        let bearer = headers.get(AUTHORIZATION).map(|value| {
            let text = value.to_str().unwrap_or_default();
            text.strip_prefix("Bearer ").or_else(|| text.strip_prefix("bearer ")).unwrap_or_default()
        });
        match bearer {
            Some(token) => {
                // A method that needs no token is not refused for a stale one.
                match self.verifier.verify(token).await {
                    Ok(principal) => {
                        if !principal.user_id.is_nil() {
                            tracing::Span::current().record("user.id", tracing::field::display(principal.user_id));
                        }
                        let conditions = Conditions::from_headers(headers)?;
                        let token = Some(token.to_owned());
                        Ok(OpCtx::new(Some((*principal).clone()), token, origin, deadline).under(conditions))
                    }
                    Err(_) if self.is_public(head) => Ok(OpCtx::new(None, None, origin, deadline)),
                    Err(failure) => Err(failure),
                }
            }
            None if self.is_public(head) => Ok(OpCtx::new(None, None, origin, deadline)),
            None => Err(Failure::new(Code::Unauthenticated, "a bearer token is needed: sign in first")),
        }
    }

    fn is_public(&self, head: &Parts) -> bool {
        self.public.contains(&head.uri.path())
    }
}
