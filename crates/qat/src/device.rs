//! The one place that chooses a device: `flex`, `ndarray`, `wgpu` or `cuda`, with an optional index, or one of another machine.

use std::str::FromStr;

use burn::tensor::Device;

/// A kind of device, as the command line names it, and which one of its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum DeviceName {
    /// Burn's pure-Rust CPU backend with fused operations; always there.
    #[default]
    Flex,
    /// The `ndarray` backend; needs the `ndarray` feature.
    NdArray,
    /// A GPU through WebGPU, Vulkan or Metal; needs the `wgpu` feature.
    Wgpu(usize),
    /// An NVIDIA GPU; needs the `cuda` feature.
    Cuda(usize),
    /// A device that another machine serves, through Burn's remote backend; needs the `remote` feature.
    Remote(RemoteName),
}

/// Where a remote device is: `ws://HOST:PORT`, and which of the devices served there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemoteName {
    /// A process keeps every remote device that it has named until it ends, so its address may live as long.
    address: &'static str,
    index: usize,
}

impl RemoteName {
    /// `ws://HOST:PORT` with an optional `#INDEX`.
    fn parse(text: &str) -> Option<Self> {
        let (address, index) = match text.split_once('#') {
            Some((address, index)) => (address, index.parse().ok()?),
            None => (text, 0),
        };
        let host = address.strip_prefix("ws://")?;
        let (name, port) = host.rsplit_once(':')?;
        let is_plain = !name.is_empty() && !host.contains(|c: char| c.is_whitespace() || c.is_control() || c == '/');
        (is_plain && port.parse::<u16>().is_ok_and(|port| port != 0)).then(|| Self { address: address.to_owned().leak(), index })
    }

    #[cfg(feature = "remote")]
    fn init(self) -> Result<Device, DeviceError> {
        use burn::tensor::remote::RemoteHost;
        let device = Device::remote_options(&RemoteHost::websocket(self.address)).device_index(self.index).init();
        device.map_err(|source| DeviceError::Unreachable { address: self.address.to_owned(), source: Box::new(source) })
    }
}

/// Why a device name does not give a device.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// The text names no device.
    #[error("unknown device, --device: expected flex, ndarray, wgpu[:N], cuda[:N] or remote:ws://HOST:PORT[#N], found {found:?}")]
    Unknown {
        /// What was given.
        found: String,
    },
    /// The program was built without the device.
    #[error("device not built in, --device {name}: expected a build with `--features {name}`, found one without")]
    NotBuiltIn {
        /// The feature to build with.
        name: &'static str,
    },
    /// Another machine's device could not be connected.
    #[error("remote device, {address}: expected a connection, found {source}")]
    Unreachable {
        /// Where it was to be.
        address: String,
        /// What Burn said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl FromStr for DeviceName {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Self, DeviceError> {
        let unknown = || DeviceError::Unknown { found: text.to_owned() };
        if let Some(place) = text.strip_prefix("remote:") {
            return RemoteName::parse(place).map(Self::Remote).ok_or_else(unknown);
        }
        let (kind, index) = match text.split_once(':') {
            Some((kind, index)) => (kind, Some(index.parse().map_err(|_| unknown())?)),
            None => (text, None),
        };
        match (kind, index) {
            ("flex", None) => Ok(Self::Flex),
            ("ndarray", None) => Ok(Self::NdArray),
            ("wgpu", index) => Ok(Self::Wgpu(index.unwrap_or(0))),
            ("cuda", index) => Ok(Self::Cuda(index.unwrap_or(0))),
            _ => Err(unknown()),
        }
    }
}

impl std::fmt::Display for DeviceName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Flex => f.write_str("flex"),
            Self::NdArray => f.write_str("ndarray"),
            Self::Wgpu(index) => write!(f, "wgpu:{index}"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
            Self::Remote(RemoteName { address, index }) => write!(f, "remote:{address}#{index}"),
        }
    }
}

impl DeviceName {
    /// The device itself, without autodiff.
    ///
    /// # Errors
    /// The program was built without it.
    pub fn init(self) -> Result<Device, DeviceError> {
        match self {
            Self::Flex => Ok(Device::flex()),
            #[cfg(feature = "ndarray")]
            #[allow(
                deprecated,
                reason = "Burn will drop this backend in favour of flex; until then it is an independent check of it"
            )]
            Self::NdArray => Ok(Device::ndarray()),
            #[cfg(not(feature = "ndarray"))]
            Self::NdArray => Err(DeviceError::NotBuiltIn { name: "ndarray" }),
            #[cfg(feature = "wgpu")]
            Self::Wgpu(0) => Ok(Device::wgpu(burn::tensor::DeviceKind::DefaultDevice)),
            #[cfg(feature = "wgpu")]
            Self::Wgpu(index) => Ok(Device::wgpu(burn::tensor::DeviceKind::DiscreteGpu(index))),
            #[cfg(not(feature = "wgpu"))]
            Self::Wgpu(_) => Err(DeviceError::NotBuiltIn { name: "wgpu" }),
            #[cfg(feature = "cuda")]
            Self::Cuda(index) => Ok(Device::cuda(index)),
            #[cfg(not(feature = "cuda"))]
            Self::Cuda(_) => Err(DeviceError::NotBuiltIn { name: "cuda" }),
            #[cfg(feature = "remote")]
            Self::Remote(place) => place.init(),
            #[cfg(not(feature = "remote"))]
            Self::Remote(_) => Err(DeviceError::NotBuiltIn { name: "remote" }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_written() {
        for (text, name) in [("flex", DeviceName::Flex), ("ndarray", DeviceName::NdArray), ("wgpu:1", DeviceName::Wgpu(1))] {
            assert_eq!(text.parse::<DeviceName>().unwrap(), name);
            assert_eq!(name.to_string(), text);
        }
        assert_eq!("cuda".parse::<DeviceName>().unwrap(), DeviceName::Cuda(0));
        let name: DeviceName = "remote:ws://10.0.0.2:3000".parse().unwrap();
        assert_eq!(name.to_string(), "remote:ws://10.0.0.2:3000#0");
        assert_eq!("remote:ws://10.0.0.2:3000#0".parse::<DeviceName>().unwrap(), name);
        assert_ne!("remote:ws://10.0.0.2:3000#1".parse::<DeviceName>().unwrap(), name);
    }

    #[test]
    fn nonsense_is_refused() {
        let remote = [
            "remote",
            "remote:",
            "remote:gpu:3000",
            "remote:ws://gpu",
            "remote:ws://gpu:0",
            "remote:ws://:1",
            "remote:ws://a b:1",
        ];
        for text in ["", "gpu", "flex:1", "wgpu:", "wgpu:x", "cuda:-1"].into_iter().chain(remote) {
            let error = text.parse::<DeviceName>().unwrap_err();
            assert!(matches!(&error, DeviceError::Unknown { found } if found == text), "{error}");
        }
    }
}
