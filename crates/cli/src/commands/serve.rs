//! `qat serve`: Burn's remote server for a device of this machine, until SIGINT or SIGTERM.

use crate::args::{Global, Serve};
use crate::error::CliError;

/// Does what the arguments say.
#[cfg(feature = "remote")]
pub fn run(args: &Serve, global: &Global) -> Result<(), CliError> {
    use burn::server::{RemoteServer, WebSocketTransport};
    let name = global.device.unwrap_or_default();
    let device = name.init()?;
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| CliError::Serve { address: args.listen, source };
    let listener = std::net::TcpListener::bind(args.listen).map_err(|error| failed(error.into()))?;
    let address = listener.local_addr().map_err(|error| failed(error.into()))?;
    if !global.quiet {
        crate::output::message(&format!("{name} is served as remote:ws://{address}"));
    }
    RemoteServer::new([device]).serve(WebSocketTransport::from_listener(listener)).map_err(|error| failed(error.into()))
}

/// Says what is missing.
#[cfg(not(feature = "remote"))]
pub fn run(_: &Serve, _: &Global) -> Result<(), CliError> {
    Err(qat::DeviceError::NotBuiltIn { name: "remote" }.into())
}
