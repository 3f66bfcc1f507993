//! A matrix that lies inside a slice.

/// Element (i, k) lies at `i * row + k * col`.
#[derive(Clone, Copy, Debug)]
pub struct Strided<'a, T> {
    pub data: &'a [T],
    pub row: usize,
    pub col: usize,
}

impl<'a, T: Copy> Strided<'a, T> {
    /// Rows that begin `row` elements apart, each contiguous.
    pub fn rows(data: &'a [T], row: usize) -> Self {
        Self { data, row, col: 1 }
    }

    /// The transposed view.
    pub fn t(self) -> Self {
        Self {
            row: self.col,
            col: self.row,
            ..self
        }
    }

    /// The view that begins with element `first` of the slice, empty beyond its end.
    pub fn from(self, first: usize) -> Self {
        Self {
            data: self.data.get(first..).unwrap_or(&[]),
            ..self
        }
    }

    /// The rows from `first` on.
    pub fn from_row(self, first: usize) -> Self {
        self.from(first * self.row)
    }

    #[inline(always)]
    pub fn at(&self, i: usize, k: usize) -> T {
        self.data[i * self.row + k * self.col]
    }

    /// Whether `rows` × `cols` elements lie inside the slice.
    pub fn holds(&self, rows: usize, cols: usize) -> bool {
        rows == 0 || cols == 0 || (rows - 1) * self.row + (cols - 1) * self.col < self.data.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_show_their_elements() {
        let data = [0, 1, 2, 3, 4, 5, 6];
        let view = Strided::rows(&data, 3);
        assert_eq!((view.at(1, 2), view.t().at(2, 1)), (5, 5));
        assert_eq!(view.from_row(1).at(0, 1), 4);
        assert!(view.holds(2, 3) && view.t().holds(3, 2) && view.holds(0, 99));
        assert!(view.holds(2, 4) && !view.holds(2, 5) && !view.holds(3, 2));
    }
}
