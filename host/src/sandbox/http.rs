//! `wasi:http` for the contract of that name: the types, and requests to others, all of
//! which are refused before anything is opened.

use http::Request;
use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi_http::p2::bindings::http::types;
use wasmtime_wasi_http::p2::types::{HostFutureIncomingResponse, HostOutgoingRequest};
use wasmtime_wasi_http::{
    Error, RequestOptions, WasiBody, WasiHttp, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks,
};

use super::HostData;

const OUTGOING: &str = "wasi:http/outgoing-handler@0.2.12";

/// Memory of one set of headers, bytes: those of a response, and the map around them. The
/// guest can have as many sets as resources.
const FIELDS: usize = 48 << 10;

/// Longest part of a body that is written at once, bytes. Two of them wait for the host.
const CHUNK: usize = 16 << 10;

pub(super) fn context() -> WasiHttpCtx {
    let mut context = WasiHttpCtx::new();
    context.set_field_size_limit(FIELDS);
    context
}

/// What the host decides about HTTP.
pub(super) struct Hooks;

type Sent = (
    http::Response<WasiBody>,
    Box<dyn Future<Output = Result<(), Error>> + Send>,
);

impl WasiHttpHooks for Hooks {
    fn send_request(
        &mut self,
        _: Request<WasiBody>,
        _: Option<RequestOptions>,
        _: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Result<Sent, Error>> + Send> {
        Box::new(async { Err(Error::HttpRequestDenied) })
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        CHUNK
    }
}

impl HostData {
    /// The guest's requests and responses.
    pub fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView {
            hooks: &mut self.hooks,
            table: &mut self.table,
            ctx: &mut self.http,
        }
    }

    /// Refuses what the guest would send.
    fn refuse(
        &mut self,
        request: Resource<HostOutgoingRequest>,
        options: Option<Resource<RequestOptions>>,
    ) -> wasmtime::Result<Refused> {
        self.table.delete(request)?;
        if let Some(options) = options {
            self.table.delete(options)?;
        }
        self.tap.context.denied(OUTGOING);
        Ok(Err(types::ErrorCode::HttpRequestDenied))
    }
}

/// What `handle` would give.
type Refused = Result<Resource<HostFutureIncomingResponse>, types::ErrorCode>;

/// What it is asked with.
type Asked = (
    Resource<HostOutgoingRequest>,
    Option<Resource<RequestOptions>>,
);

/// Links `types` and `outgoing-handler`.
///
/// # Errors
/// An interface was linked before.
pub fn add_http_to_linker(linker: &mut Linker<HostData>) -> wasmtime::Result<()> {
    let options = types::LinkOptions::default();
    types::add_to_linker::<HostData, WasiHttp>(linker, &options, HostData::http)?;
    let mut outgoing = linker.instance(OUTGOING)?;
    outgoing.func_wrap(
        "handle",
        |mut store: StoreContextMut<'_, HostData>, (request, options): Asked| {
            Ok((store.data_mut().refuse(request, options)?,))
        },
    )
}
