//! One service: its table of routes in place of a component. It takes what the host
//! has made of a request, and gives back what the host checks and sends.

use std::sync::Arc;

use anyhow::bail;
use lockgate::bindings::lockgate::plugin::types;
use lockgate::config::ServiceConfig;
use lockgate::http::Backend;
use lockgate::response;
use lockgate::slot::{Answer, Refusal};
use lockgate::state::State;
use lockgate_sdk::{Route, serve};

use crate::call::Call;
use crate::convert;

/// What answers stand under in the log.
const REVISION: &str = "native";

/// A service that runs as a part of this program.
pub(crate) struct Native {
    scope: Arc<Scope>,
    routes: Vec<Route<Call>>,
}

/// What all calls of one service share.
#[derive(Debug)]
pub(crate) struct Scope {
    /// Its settings, limits and rights.
    pub(crate) service: ServiceConfig,
    /// What outlives a call.
    pub(crate) state: Arc<State>,
}

impl Native {
    /// One of the five services.
    ///
    /// # Errors
    /// It is another one: there is no native code of it here.
    pub(crate) fn new(service: &ServiceConfig, state: &Arc<State>) -> anyhow::Result<Self> {
        let routes = match service.name.as_str() {
            "jwt-token-adapter" => jwt_token_adapter::routes(),
            "session-validation-normalizer" => session_validation_normalizer::routes(),
            "fallback-session-provider" => fallback_session_provider::routes(),
            "websocket-auth-gateway" => websocket_auth_gateway::routes(),
            "service-boundary-coordinator" => service_boundary_coordinator::routes(),
            other => bail!("there is no native code of the service {other}"),
        };
        let scope = Scope {
            service: service.clone(),
            state: Arc::clone(state),
        };
        Ok(Self {
            scope: Arc::new(scope),
            routes,
        })
    }
}

impl Backend for Native {
    fn service(&self) -> &ServiceConfig {
        &self.scope.service
    }

    async fn handle(&self, request: types::Request, id: &str) -> Result<Answer, Refusal> {
        let call = Call::new(Arc::clone(&self.scope), id);
        let answer = serve(&call, &self.routes, &convert::request(request));
        let limits = &self.scope.service.limits;
        let response = response::convert(convert::response(answer), limits);
        Ok(Answer {
            response: response.map_err(|_| Refusal::BadAnswer)?,
            revision: REVISION.to_owned(),
        })
    }
}
