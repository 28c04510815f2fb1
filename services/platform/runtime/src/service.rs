//! What a service hands to the process that runs it.

use futures::future::BoxFuture;

use crate::{Check, Shutdown};

/// A service, built but not yet running.
pub struct Service {
    /// The service's name, as in roles and logs.
    pub name: &'static str,
    /// Its gRPC services.
    pub routes: tonic::service::Routes,
    /// Its background work.
    pub tasks: Vec<Task>,
    /// What must work for it to take requests.
    pub readiness: Vec<Check>,
}

impl Service {
    /// A service with routes alone.
    pub fn new(name: &'static str, routes: tonic::service::Routes) -> Self {
        Self { name, routes, tasks: Vec::new(), readiness: Vec::new() }
    }

    /// Adds background work.
    #[must_use]
    pub fn task(mut self, task: Task) -> Self {
        self.tasks.push(task);
        self
    }

    /// Adds a readiness check.
    #[must_use]
    pub fn check(mut self, check: Check) -> Self {
        self.readiness.push(check);
        self
    }
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let tasks: Vec<_> = self.tasks.iter().map(|t| t.name).collect();
        let checks: Vec<_> = self.readiness.iter().map(|c| c.name).collect();
        f.debug_struct("Service")
            .field("name", &self.name)
            .field("tasks", &tasks)
            .field("readiness", &checks)
            .finish_non_exhaustive()
    }
}

/// The work of a [`Task`].
pub type Run = Box<dyn FnOnce(Shutdown) -> BoxFuture<'static, ()> + Send>;

/// Background work that ends when the process is to stop.
pub struct Task {
    /// Its name in logs.
    pub name: &'static str,
    /// Starts it; the future must end soon after the stop is asked for.
    pub run: Run,
}

impl Task {
    /// A task of a function from the stop handle to a future.
    pub fn new<F, Fut>(name: &'static str, run: F) -> Self
    where
        F: FnOnce(Shutdown) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        Self { name, run: Box::new(move |shutdown| Box::pin(run(shutdown))) }
    }

    /// Starts the task under `shutdown`.
    pub fn spawn(self, shutdown: &Shutdown) {
        shutdown.spawn(self.name, (self.run)(shutdown.clone()));
    }
}

impl std::fmt::Debug for Task {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Task").field("name", &self.name).finish_non_exhaustive()
    }
}
