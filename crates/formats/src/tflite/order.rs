//! In which order a value's axes stand in a file.
//!
//! A sample of a model is `[C, H, W]`, a file's tensor `[batch, H, W, C]`. Instead of moving numbers at every border, a
//! value keeps the order that it has in the file and every operation is told of axes in that order; numbers are moved only where
//! an operation needs another order. A transpose is then a new reading of the same tensor.

/// For each axis of a tensor in the file, the batch not counted, the axis of the sample that it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Order(Vec<usize>);

impl Order {
    /// The sample's own.
    pub fn plain(rank: usize) -> Self {
        Self((0..rank).collect())
    }

    /// `[H, W, C]` of a sample `[C, H, W]`.
    pub fn image() -> Self {
        Self(vec![1, 2, 0])
    }

    /// One with the sample's axes as given; `None` if these are not each axis once.
    pub fn of(axes: Vec<usize>) -> Option<Self> {
        let mut sorted = axes.clone();
        sorted.sort_unstable();
        sorted.into_iter().eq(0..axes.len()).then_some(Self(axes))
    }

    /// Number of axes.
    pub fn rank(&self) -> usize {
        self.0.len()
    }

    /// For each axis of the file, the sample's.
    pub fn axes(&self) -> Vec<usize> {
        self.0.clone()
    }

    /// Where an axis of the sample stands.
    ///
    /// # Panics
    /// If the sample has no such axis.
    pub fn position(&self, axis: usize) -> usize {
        self.0.iter().position(|&found| found == axis).expect("an axis of the sample")
    }

    /// The sample's last axis is the file's.
    pub fn keeps_last(&self) -> bool {
        self.0.last().is_none_or(|&axis| axis + 1 == self.0.len())
    }

    /// One entry for each axis of the sample, in the order of the file.
    pub fn apply<T: Copy>(&self, list: &[T]) -> Vec<T> {
        self.0.iter().map(|&axis| list[axis]).collect()
    }

    /// One entry for each axis of the file, in the order of the sample.
    pub fn undo<T: Copy>(&self, list: &[T]) -> Vec<T> {
        (0..self.0.len()).map(|axis| list[self.position(axis)]).collect()
    }

    /// The order of the same tensor read as its transpose, whose axis `i` is axis `permutation[i]` here.
    pub fn transposed(&self, permutation: &[usize]) -> Self {
        let axis_of = |old| permutation.iter().position(|&axis| axis == old).expect("a permutation of the axes");
        Self(self.0.iter().map(|&axis| axis_of(axis)).collect())
    }

    /// The order of the same sample in the file's transpose, whose axis `i` is axis `permutation[i]` here.
    pub fn in_transpose(&self, permutation: &[usize]) -> Self {
        Self(permutation.iter().map(|&at| self.0[at]).collect())
    }

    /// For each axis of `target`, the axis here that it is: what a transpose in the file is told.
    pub fn permutation_to(&self, target: &Self) -> Vec<usize> {
        target.0.iter().map(|&axis| self.position(axis)).collect()
    }

    /// Whether numbers in this order stand as in `target`: at most axes of size 1 move.
    pub fn stands_as(&self, target: &Self, shape: &[usize]) -> bool {
        let moving = |order: &Self| order.0.iter().copied().filter(|&axis| shape[axis] != 1).collect::<Vec<_>>();
        moving(self) == moving(target)
    }

    /// The order of a sample `to` that is this one, `from`, with axes of size 1 come or gone, in the same tensor: that of an image
    /// or the sample's own where they fit. `None` if other axes differ.
    pub fn beside_units(&self, from: &[usize], to: &[usize]) -> Option<Self> {
        let sized = |sizes: &[usize]| (0..sizes.len()).filter(|&axis| sizes[axis] != 1).collect::<Vec<_>>();
        let (before, after) = (sized(from), sized(to));
        if !before.iter().map(|&axis| from[axis]).eq(after.iter().map(|&axis| to[axis])) {
            return None;
        }
        // In which order the axes with a size stand in the file.
        let standing = |order: &Self, sized: &[usize]| -> Vec<usize> {
            order.0.iter().filter_map(|axis| sized.iter().position(|found| found == axis)).collect()
        };
        let wanted = standing(self, &before);
        let image = (to.len() == 3).then(Self::image);
        let usual = image.into_iter().chain([Self::plain(to.len())]).find(|order| standing(order, &after) == wanted);
        usual.or_else(|| {
            let units = (0..to.len()).filter(|&axis| to[axis] == 1);
            Self::of(units.chain(wanted.iter().map(|&at| after[at])).collect())
        })
    }

    /// The order without some axes of the sample, the others renumbered.
    pub fn without(&self, axes: &[usize]) -> Self {
        let kept = self.0.iter().filter(|axis| !axes.contains(axis));
        Self(kept.map(|&axis| axis - axes.iter().filter(|&&gone| gone < axis).count()).collect())
    }
}

/// Elements of a row-major array of `shape` in the order of its transpose, whose axis `i` is axis `permutation[i]`.
pub fn transpose<T: Copy>(elements: &[T], shape: &[usize], permutation: &[usize]) -> Vec<T> {
    let mut strides = vec![1usize; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    let (sizes, steps): (Vec<usize>, Vec<usize>) = permutation.iter().map(|&axis| (shape[axis], strides[axis])).unzip();
    let mut result = Vec::with_capacity(elements.len());
    let mut index = vec![0usize; sizes.len()];
    for _ in 0..elements.len() {
        result.push(elements[index.iter().zip(&steps).map(|(&at, &step)| at * step).sum::<usize>()]);
        for axis in (0..sizes.len()).rev() {
            index[axis] += 1;
            if index[axis] < sizes[axis] {
                break;
            }
            index[axis] = 0;
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transpose_is_another_reading() {
        // A file's [H, W, C] is first read as itself, then through the transpose to [C, H, W].
        let order = Order::plain(3).transposed(&[2, 0, 1]);
        assert_eq!(order, Order::image());
        assert_eq!(order.apply(&['c', 'h', 'w']), ['h', 'w', 'c']);
        assert_eq!(order.undo(&['h', 'w', 'c']), ['c', 'h', 'w']);
        assert_eq!(order.transposed(&[1, 2, 0]), Order::plain(3));
        assert_eq!(Order::of(vec![1, 2, 0]), Some(Order::image()));
        assert_eq!(Order::of(vec![1, 2, 1]), None);
        // A file's transpose from [H, W, C] to [C, H, W] leaves the sample what it is.
        assert_eq!(order.in_transpose(&[2, 0, 1]), Order::plain(3));
        assert_eq!(order.permutation_to(&Order::plain(3)), [2, 0, 1]);
    }

    #[test]
    fn only_axes_with_a_size_move() {
        assert!(Order::image().stands_as(&Order::plain(3), &[5, 1, 1]));
        assert!(Order::image().stands_as(&Order::plain(3), &[1, 4, 5]));
        assert!(!Order::image().stands_as(&Order::plain(3), &[5, 1, 2]));
    }

    #[test]
    fn axes_of_size_one_come_and_go() {
        // [C, 1, T] in the file as [1, T, C] becomes [C, T], in the file [T, C], and back.
        let order = Order::image().beside_units(&[6, 1, 10], &[6, 10]).unwrap();
        assert_eq!(order, Order(vec![1, 0]));
        assert_eq!(order.beside_units(&[6, 10], &[6, 1, 10]), Some(Order::image()));
        assert_eq!(order.beside_units(&[6, 10], &[6, 10, 1, 1]), Some(Order(vec![2, 3, 1, 0])));
        assert_eq!(order.beside_units(&[6, 10], &[60]), None);
        assert_eq!(order.beside_units(&[6, 10], &[10, 6]), None);
    }

    #[test]
    fn axes_are_renumbered() {
        assert_eq!(Order::image().without(&[1, 2]), Order::plain(1));
        assert_eq!(Order::image().without(&[1]), Order(vec![1, 0]));
    }

    #[test]
    fn elements_follow_their_axes() {
        // [2, 3] to [3, 2].
        assert_eq!(transpose(&[1, 2, 3, 4, 5, 6], &[2, 3], &[1, 0]), [1, 4, 2, 5, 3, 6]);
        // [2, 1, 2] of (c, h, w) to (h, w, c).
        assert_eq!(transpose(&[1, 2, 3, 4], &[2, 1, 2], &[1, 2, 0]), [1, 3, 2, 4]);
        assert!(transpose::<u8>(&[], &[0, 3], &[1, 0]).is_empty());
    }
}
