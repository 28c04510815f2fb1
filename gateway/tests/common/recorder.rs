//! A service that keeps what it was sent and gives the answers it was told to.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use aegis_error::Failure;
use aegis_rpc::RpcService;
use bytes::Bytes;
use futures::stream;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, StreamBody};
use prost::Message;
use tonic::Status;
use tower::{service_fn, util::BoxCloneSyncService};

/// Bytes before a message: whether it is compressed, and its length.
const PREFIX: usize = 5;

/// The messages of an answer, and how it ends.
type Answers = HashMap<&'static str, Result<(Bytes, HeaderMap), Status>>;

/// A call: the method's name, the headers, the messages in their frames.
#[derive(Clone, Debug)]
struct Call {
    method: String,
    headers: HeaderMap,
    body: Bytes,
}

/// See the module.
#[derive(Clone, Default)]
pub struct Recorder {
    calls: Arc<Mutex<Vec<Call>>>,
    answers: Answers,
}

impl Recorder {
    /// Answers this method with this message.
    pub fn answers(self, method: &'static str, message: &impl Message) -> Self {
        self.streams(method, std::slice::from_ref(message), None)
    }

    /// Answers this method with these messages, and then with a failure.
    pub fn streams(mut self, method: &'static str, messages: &[impl Message], end: Option<Failure>) -> Self {
        let mut frames = Vec::new();
        for message in messages {
            frames.push(0);
            frames.extend_from_slice(&u32::try_from(message.encoded_len()).unwrap().to_be_bytes());
            frames.extend_from_slice(&message.encode_to_vec());
        }
        let mut trailers = HeaderMap::new();
        match end {
            None => drop(trailers.insert("grpc-status", "0".parse().unwrap())),
            Some(failure) => Status::from(failure).add_header(&mut trailers).unwrap(),
        }
        self.answers.insert(method, Ok((frames.into(), trailers)));
        self
    }

    /// Refuses this method so.
    pub fn refuses(mut self, method: &'static str, failure: Failure) -> Self {
        self.answers.insert(method, Err(failure.into()));
        self
    }

    /// The service.
    pub fn service(&self) -> RpcService {
        let (calls, answers) = (Arc::clone(&self.calls), Arc::new(self.answers.clone()));
        BoxCloneSyncService::new(service_fn(move |request: Request<tonic::body::Body>| {
            let (calls, answers) = (Arc::clone(&calls), Arc::clone(&answers));
            async move {
                let (head, body) = request.into_parts();
                let method = head.uri.path().rsplit('/').next().unwrap().to_owned();
                let body = body.collect().await.unwrap().to_bytes();
                let answer = answers.get(method.as_str()).cloned();
                calls.lock().unwrap().push(Call { method, headers: head.headers, body });
                match answer {
                    Some(Ok((messages, trailers))) => {
                        let frames = [http_body::Frame::data(messages), http_body::Frame::trailers(trailers)];
                        let body = StreamBody::new(stream::iter(frames.map(Ok::<_, Status>)));
                        let answer = Response::builder().header("content-type", "application/grpc");
                        Ok(answer.body(tonic::body::Body::new(body)).unwrap())
                    }
                    Some(Err(status)) => Err(status),
                    None => Err(Status::unimplemented("nothing was said of it")),
                }
            }
        }))
    }

    /// The methods that were called.
    pub fn methods(&self) -> Vec<String> {
        self.calls.lock().unwrap().iter().map(|call| call.method.clone()).collect()
    }

    /// What the last call of this method said.
    pub fn last<M: Message + Default>(&self, method: &str) -> M {
        M::decode(self.call(method).body.slice(PREFIX..)).unwrap()
    }

    /// All that the last call of this method said, where that was a stream.
    pub fn all<M: Message + Default>(&self, method: &str) -> Vec<M> {
        let mut body = self.call(method).body;
        let mut messages = Vec::new();
        while !body.is_empty() {
            let prefix = body.split_to(PREFIX);
            let length = u32::from_be_bytes(prefix[1..].try_into().unwrap());
            messages.push(M::decode(body.split_to(length as usize)).unwrap());
        }
        messages
    }

    /// A header of the last call of this method.
    pub fn header(&self, method: &str, name: &str) -> Option<String> {
        Some(self.call(method).headers.get(name)?.to_str().unwrap().to_owned())
    }

    fn call(&self, method: &str) -> Call {
        let calls = self.calls.lock().unwrap();
        calls
            .iter()
            .rev()
            .find(|call| call.method == method)
            .unwrap_or_else(|| panic!("{method} was not called"))
            .clone()
    }
}
