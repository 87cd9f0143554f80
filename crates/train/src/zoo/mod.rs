//! The zoo: small networks written as plain Burn modules, without a trace of quantization.
//!
//! All take images in NCHW layout, in the units of [`ZooModel::normalize`], and give ten class scores. [`ZooModel`] is a name;
//! [`ZooNet`] is a network of any of these names, as one type, whose parameter paths are those of the plain network.

mod cnv;
mod dense;
mod ds_cnn;
mod fc;
mod gru;
mod lenet;
mod lstm;
mod mlp;
mod mobilenet;
mod resnet20;
mod resnet8;

use crate::{
    classifier::Classifier,
    data::{ImageSet, Normalize},
    error::TrainError,
    pretrained::Rename,
    random::with_seed,
};
use burn::{
    module::{Module, ModuleMapper, ModuleVisitor, Param},
    tensor::{Bool, Device, Int, Tensor},
};
use std::{fmt, str::FromStr};

pub use cnv::{Cnv, ConvBlock};
pub use dense::Dense;
pub use ds_cnn::{DsCnn, SeparableBlock};
pub use fc::Fc;
pub use gru::GruClassifier;
pub use lenet::LeNet;
pub use lstm::LstmClassifier;
pub use mlp::Mlp;
pub use mobilenet::MobileNet;
pub use resnet8::{Block, ResNet8};
pub use resnet20::{BasicBlock, ResNet20};

/// The name of a network of the zoo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ZooModel {
    /// [`Mlp`].
    Mlp,
    /// [`Fc`] with hidden layers of 64.
    Tfc,
    /// [`Fc`] with hidden layers of 256.
    Sfc,
    /// [`Fc`] with hidden layers of 1024.
    Lfc,
    /// [`LeNet`].
    LeNet,
    /// [`ResNet8`].
    ResNet8,
    /// [`ResNet20`].
    ResNet20,
    /// [`Cnv`].
    Cnv,
    /// [`MobileNet`].
    MobileNet,
    /// [`DsCnn`] for one-channel images of 28 by 28.
    DsCnn,
    /// [`LstmClassifier`].
    Lstm,
    /// [`GruClassifier`].
    Gru,
}

impl ZooModel {
    /// Every network, in the order in which they are listed to the user.
    pub const ALL: [Self; 12] = [
        Self::Mlp,
        Self::Tfc,
        Self::Sfc,
        Self::Lfc,
        Self::LeNet,
        Self::ResNet8,
        Self::ResNet20,
        Self::Cnv,
        Self::MobileNet,
        Self::DsCnn,
        Self::Lstm,
        Self::Gru,
    ];

    /// All names, as messages list them.
    pub const LIST: &'static str = "mlp, tfc, sfc, lfc, lenet, resnet8, resnet20, cnv, mobilenet-v1-025, ds-cnn, lstm or gru";

    /// The name on the command line and in files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mlp => "mlp",
            Self::Tfc => "tfc",
            Self::Sfc => "sfc",
            Self::Lfc => "lfc",
            Self::LeNet => "lenet",
            Self::ResNet8 => "resnet8",
            Self::ResNet20 => "resnet20",
            Self::Cnv => "cnv",
            Self::MobileNet => "mobilenet-v1-025",
            Self::DsCnn => "ds-cnn",
            Self::Lstm => "lstm",
            Self::Gru => "gru",
        }
    }

    /// Shape of one image, `[c, h, w]`.
    pub const fn input_shape(self) -> [usize; 3] {
        match self {
            Self::Mlp | Self::Tfc | Self::Sfc | Self::Lfc | Self::LeNet | Self::DsCnn | Self::Lstm | Self::Gru => [1, 28, 28],
            Self::ResNet8 | Self::ResNet20 | Self::Cnv | Self::MobileNet => [3, 32, 32],
        }
    }

    /// Number of class scores.
    pub const fn classes(self) -> usize {
        10
    }

    /// What the network sees of a pixel, unless it is said: for `resnet20` what its published weights were trained on.
    pub fn normalize(self) -> Normalize {
        match self {
            Self::ResNet20 => Normalize::imagenet(),
            Self::Tfc | Self::Sfc | Self::Lfc | Self::Cnv => Normalize::signed(),
            _ => Normalize::unit(),
        }
    }

    /// Rules that give tensors from elsewhere this network's names: other common names of the same layers.
    pub fn rename(self) -> Rename {
        let table: &[(&str, &str)] = match self {
            // Torchvision's name of the last layer.
            Self::ResNet20 => &[(r"^fc\.", "linear.")],
            // Places in Brevitas' lists, which count activations and pools as well.
            Self::Tfc | Self::Sfc | Self::Lfc => &[
                (r"^features\.2\.", "hidden.0.linear."),
                (r"^features\.3\.", "hidden.0.bn."),
                (r"^features\.6\.", "hidden.1.linear."),
                (r"^features\.7\.", "hidden.1.bn."),
                (r"^features\.10\.", "hidden.2.linear."),
                (r"^features\.11\.", "hidden.2.bn."),
                (r"^features\.14\.", "output."),
            ],
            Self::Cnv => &[
                (r"^conv_features\.1\.", "convs.0.conv."),
                (r"^conv_features\.2\.", "convs.0.bn."),
                (r"^conv_features\.4\.", "convs.1.conv."),
                (r"^conv_features\.5\.", "convs.1.bn."),
                (r"^conv_features\.8\.", "convs.2.conv."),
                (r"^conv_features\.9\.", "convs.2.bn."),
                (r"^conv_features\.11\.", "convs.3.conv."),
                (r"^conv_features\.12\.", "convs.3.bn."),
                (r"^conv_features\.15\.", "convs.4.conv."),
                (r"^conv_features\.16\.", "convs.4.bn."),
                (r"^conv_features\.18\.", "convs.5.conv."),
                (r"^conv_features\.19\.", "convs.5.bn."),
                (r"^linear_features\.0\.", "hidden.0.linear."),
                (r"^linear_features\.1\.", "hidden.0.bn."),
                (r"^linear_features\.3\.", "hidden.1.linear."),
                (r"^linear_features\.4\.", "hidden.1.bn."),
                (r"^linear_features\.6\.", "output."),
            ],
            _ => &[],
        };
        Rename::table(table)
    }

    /// Checks that the images of `set` are of this network's shape and have no more classes than it has scores.
    ///
    /// # Errors
    ///
    /// [`TrainError::WrongData`].
    pub fn accepts(self, set: &ImageSet) -> Result<(), TrainError> {
        if set.shape == self.input_shape() && set.classes <= self.classes() {
            return Ok(());
        }
        let describe = |[c, h, w]: [usize; 3], classes| format!("images of {c}x{h}x{w} in {classes} classes");
        Err(TrainError::WrongData {
            dataset: set.name.clone(),
            model: self.name().into(),
            expected: describe(self.input_shape(), self.classes()),
            found: describe(set.shape, set.classes),
        })
    }

    /// A network on `device` whose weights follow from `seed` alone.
    ///
    /// Burn draws a parameter when it is first used; every parameter is used here, so that no later random number changes it.
    pub fn init(self, device: &Device, seed: u64) -> ZooNet {
        with_seed(device, seed, || {
            let net = match self {
                Self::Mlp => ZooNet::Mlp(Mlp::init(device)),
                Self::Tfc => ZooNet::Tfc(Fc::init(64, device)),
                Self::Sfc => ZooNet::Sfc(Fc::init(256, device)),
                Self::Lfc => ZooNet::Lfc(Fc::init(1024, device)),
                Self::LeNet => ZooNet::LeNet(LeNet::init(device)),
                Self::ResNet8 => ZooNet::ResNet8(ResNet8::init(device)),
                Self::ResNet20 => ZooNet::ResNet20(ResNet20::init(device)),
                Self::Cnv => ZooNet::Cnv(Cnv::init(device)),
                Self::MobileNet => ZooNet::MobileNet(MobileNet::init(device)),
                Self::DsCnn => ZooNet::DsCnn(DsCnn::init(1, device)),
                Self::Lstm => ZooNet::Lstm(LstmClassifier::init(device)),
                Self::Gru => ZooNet::Gru(GruClassifier::init(device)),
            };
            net.visit(&mut Draw);
            net
        })
    }
}

impl fmt::Display for ZooModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is not in the zoo.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("model {name:?}: expected one of {}, found no such network", names())]
pub struct UnknownModel {
    /// The name as it was given.
    pub name: String,
}

fn names() -> String {
    ZooModel::ALL.map(ZooModel::name).join(", ")
}

impl FromStr for ZooModel {
    type Err = UnknownModel;

    fn from_str(name: &str) -> Result<Self, UnknownModel> {
        Self::ALL.into_iter().find(|model| model.name() == name).ok_or_else(|| UnknownModel { name: name.into() })
    }
}

/// Draws lazy parameters by reading them.
struct Draw;

impl ModuleVisitor for Draw {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        param.val();
    }

    fn visit_int<const D: usize>(&mut self, param: &Param<Tensor<D, Int>>) {
        param.val();
    }

    fn visit_bool<const D: usize>(&mut self, param: &Param<Tensor<D, Bool>>) {
        param.val();
    }
}

/// A network of the zoo.
///
/// It adds nothing to the paths of the parameters: `conv1.weight` of [`LeNet`] is `conv1.weight` here.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "a program holds few networks, and their tensors are elsewhere")]
pub enum ZooNet {
    /// Named `mlp`.
    Mlp(Mlp),
    /// Named `tfc`.
    Tfc(Fc),
    /// Named `sfc`.
    Sfc(Fc),
    /// Named `lfc`.
    Lfc(Fc),
    /// Named `lenet`.
    LeNet(LeNet),
    /// Named `resnet8`.
    ResNet8(ResNet8),
    /// Named `resnet20`.
    ResNet20(ResNet20),
    /// Named `cnv`.
    Cnv(Cnv),
    /// Named `mobilenet-v1-025`.
    MobileNet(MobileNet),
    /// Named `ds-cnn`.
    DsCnn(DsCnn),
    /// Named `lstm`.
    Lstm(LstmClassifier),
    /// Named `gru`.
    Gru(GruClassifier),
}

impl ZooNet {
    /// The name of this network.
    pub const fn model(&self) -> ZooModel {
        match self {
            Self::Mlp(_) => ZooModel::Mlp,
            Self::Tfc(_) => ZooModel::Tfc,
            Self::Sfc(_) => ZooModel::Sfc,
            Self::Lfc(_) => ZooModel::Lfc,
            Self::LeNet(_) => ZooModel::LeNet,
            Self::ResNet8(_) => ZooModel::ResNet8,
            Self::ResNet20(_) => ZooModel::ResNet20,
            Self::Cnv(_) => ZooModel::Cnv,
            Self::MobileNet(_) => ZooModel::MobileNet,
            Self::DsCnn(_) => ZooModel::DsCnn,
            Self::Lstm(_) => ZooModel::Lstm,
            Self::Gru(_) => ZooModel::Gru,
        }
    }
}

/// The same expression of whichever network it is.
macro_rules! each {
    ($value:expr, $net:ident => $body:expr) => {
        match $value {
            ZooNet::Mlp($net) => $body,
            ZooNet::Tfc($net) => $body,
            ZooNet::Sfc($net) => $body,
            ZooNet::Lfc($net) => $body,
            ZooNet::Cnv($net) => $body,
            ZooNet::MobileNet($net) => $body,
            ZooNet::LeNet($net) => $body,
            ZooNet::ResNet8($net) => $body,
            ZooNet::ResNet20($net) => $body,
            ZooNet::DsCnn($net) => $body,
            ZooNet::Lstm($net) => $body,
            ZooNet::Gru($net) => $body,
        }
    };
}

/// The same, put back into a [`ZooNet`].
macro_rules! map_each {
    ($value:expr, $net:ident => $body:expr) => {
        match $value {
            ZooNet::Mlp($net) => ZooNet::Mlp($body),
            ZooNet::Tfc($net) => ZooNet::Tfc($body),
            ZooNet::Sfc($net) => ZooNet::Sfc($body),
            ZooNet::Lfc($net) => ZooNet::Lfc($body),
            ZooNet::Cnv($net) => ZooNet::Cnv($body),
            ZooNet::MobileNet($net) => ZooNet::MobileNet($body),
            ZooNet::LeNet($net) => ZooNet::LeNet($body),
            ZooNet::ResNet8($net) => ZooNet::ResNet8($body),
            ZooNet::ResNet20($net) => ZooNet::ResNet20($body),
            ZooNet::DsCnn($net) => ZooNet::DsCnn($body),
            ZooNet::Lstm($net) => ZooNet::Lstm($body),
            ZooNet::Gru($net) => ZooNet::Gru($body),
        }
    };
}

impl Module for ZooNet {
    fn collect_devices(&self, devices: Vec<Device>) -> Vec<Device> {
        each!(self, net => net.collect_devices(devices))
    }

    fn fork(self, device: &Device) -> Self {
        map_each!(self, net => net.fork(device))
    }

    fn to_device(self, device: &Device) -> Self {
        map_each!(self, net => net.to_device(device))
    }

    fn train(self) -> Self {
        map_each!(self, net => net.train())
    }

    fn valid(&self) -> Self {
        map_each!(self, net => net.valid())
    }

    fn materialize(self) -> Self {
        map_each!(self, net => net.materialize())
    }

    fn visit<V: ModuleVisitor>(&self, visitor: &mut V) {
        each!(self, net => net.visit(visitor))
    }

    fn map<M: ModuleMapper>(self, mapper: &mut M) -> Self {
        map_each!(self, net => net.map(mapper))
    }
}

impl fmt::Display for ZooNet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        each!(self, net => net.fmt(f))
    }
}

impl Classifier for ZooNet {
    fn logits(&self, images: Tensor<4>) -> Tensor<2> {
        each!(self, net => net.forward(images))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_others_are_refused() {
        for model in ZooModel::ALL {
            assert_eq!(model.name().parse(), Ok(model));
        }
        let error = "lenet5".parse::<ZooModel>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "model \"lenet5\": expected one of mlp, tfc, sfc, lfc, lenet, resnet8, resnet20, cnv, mobilenet-v1-025, ds-cnn, lstm, gru, found no such network"
        );
    }

    #[test]
    fn every_network_gives_ten_scores() {
        let device = Device::flex();
        for model in ZooModel::ALL {
            let [c, h, w] = model.input_shape();
            let scores = model.init(&device, 1).logits(Tensor::zeros([3, c, h, w], &device));
            assert_eq!(scores.dims(), [3, model.classes()], "{model}");
        }
    }

    #[test]
    fn images_of_another_shape_are_refused() {
        use crate::data::class_numbers;
        let set = ImageSet {
            name: "tiny".into(),
            shape: [1, 2, 2],
            classes: 10,
            class_names: class_numbers(10),
            images: vec![0; 4],
            labels: vec![0],
        };
        let error = ZooModel::ResNet8.accepts(&set).unwrap_err();
        let text = "dataset tiny, model resnet8: expected images of 3x32x32 in 10 classes, found images of 1x2x2 in 10 classes";
        assert_eq!(error.to_string(), text);
        let fitting = ImageSet { shape: [3, 32, 32], images: vec![0; 3 * 32 * 32], ..set };
        assert!(ZooModel::ResNet8.accepts(&fitting).is_ok());
    }

    #[test]
    fn weights_follow_from_the_seed() {
        let device = Device::flex();
        let bytes = |seed| ZooModel::ResNet8.init(&device, seed).fingerprint();
        assert_eq!(bytes(7), bytes(7));
        assert_ne!(bytes(7), bytes(8));
    }

    impl ZooNet {
        /// Bits of all float parameters in visiting order, with their paths.
        fn fingerprint(&self) -> Vec<(String, Vec<u32>)> {
            #[derive(Default)]
            struct Bits(Vec<String>, Vec<(String, Vec<u32>)>);
            impl ModuleVisitor for Bits {
                fn enter_module(&mut self, name: &str, _: &str) {
                    self.0.push(name.into());
                }
                fn exit_module(&mut self, _: &str, _: &str) {
                    self.0.pop();
                }
                fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                    let values: Vec<f32> = param.val().try_into_vec_as().unwrap();
                    self.1.push((self.0.join("."), values.iter().map(|v| v.to_bits()).collect()));
                }
            }
            let mut bits = Bits::default();
            self.visit(&mut bits);
            bits.1
        }
    }

    #[test]
    fn paths_are_those_of_the_plain_network() {
        let bits = ZooModel::LeNet.init(&Device::flex(), 1).fingerprint();
        assert_eq!(bits[0].0, "conv1.weight");
    }
}
