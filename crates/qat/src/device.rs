//! The one place that chooses a device: `flex`, `ndarray`, `wgpu` or `cuda`, with an optional index.

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
}

/// Why a device name does not give a device.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// The text names no device.
    #[error("unknown device, --device: expected flex, ndarray, wgpu[:N] or cuda[:N], found {found:?}")]
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
}

impl FromStr for DeviceName {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Self, DeviceError> {
        let unknown = || DeviceError::Unknown { found: text.to_owned() };
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
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_written() {
        for (text, name) in [("flex", DeviceName::Flex), ("ndarray", DeviceName::NdArray), ("wgpu:1", DeviceName::Wgpu(1))] {
            assert_eq!(text.parse(), Ok(name));
            assert_eq!(name.to_string(), text);
        }
        assert_eq!("cuda".parse(), Ok(DeviceName::Cuda(0)));
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "gpu", "flex:1", "wgpu:", "wgpu:x", "cuda:-1"] {
            assert_eq!(text.parse::<DeviceName>(), Err(DeviceError::Unknown { found: text.into() }));
        }
    }
}
