//! What the markers of a JPEG stream tell: its size, and whether it is whole. Its decoder reads all of a file for
//! the one, and fills what is missing with grey and says nothing of the other.

use std::io::{BufRead, Seek};

const ESCAPE: u8 = 0xff;
const START_OF_SCAN: u8 = 0xda;
const END_OF_IMAGE: u8 = 0xd9;

/// Height and width, from the head of a frame (ITU-T T.81, B.2.2); None where they are not found, or come after the
/// first scan.
pub fn size(stream: &mut (impl BufRead + Seek)) -> Option<(usize, usize)> {
    let mut start = [0; 2];
    stream.read_exact(&mut start).ok()?;
    if start != [ESCAPE, 0xd8] {
        return None;
    }
    loop {
        let mut head = [0; 4];
        stream.read_exact(&mut head).ok()?;
        let [ESCAPE, marker, high, low] = head else {
            return None;
        };
        match marker {
            // Tables of codes and of arithmetic, and an extension, are no frames.
            0xc0..=0xcf if ![0xc4, 0xc8, 0xcc].contains(&marker) => {
                let mut frame = [0; 5];
                stream.read_exact(&mut frame).ok()?;
                let number =
                    |at: usize| usize::from(u16::from_be_bytes([frame[at], frame[at + 1]]));
                let size = (number(1), number(3));
                return (size.0 > 0 && size.1 > 0).then_some(size);
            }
            START_OF_SCAN | END_OF_IMAGE => return None,
            _ => {
                let length = i64::from(u16::from_be_bytes([high, low]));
                stream.seek_relative(length - 2).ok()?;
            }
        }
    }
}

/// Walks the markers (ITU-T T.81, B.1.1) to the end of the image. Thumbnails, which have an end of
/// their own, lie within segments and are passed over.
pub fn is_whole(stream: &[u8]) -> bool {
    reaches_the_end(stream).unwrap_or(false)
}

/// Whether so many bytes can hold an image: each block of 8x8 pixels takes a bit at least, as codes do (F.1.2). A head
/// alone may promise gigabytes.
pub fn can_hold(bytes: usize, (width, height): (u32, u32)) -> bool {
    let blocks = u64::from(width.div_ceil(8)) * u64::from(height.div_ceil(8));
    8 * bytes as u64 >= blocks
}

fn reaches_the_end(stream: &[u8]) -> Option<bool> {
    let mut at = 0;
    loop {
        // Stuffed zeros, restarts and fill bytes belong to the data between markers.
        at += stream.get(at..)?.iter().position(|&byte| byte == ESCAPE)? + 1;
        match *stream.get(at)? {
            END_OF_IMAGE => return Some(true),
            0x00 | 0x01 | 0xd0..=0xd8 | ESCAPE => {}
            marker => {
                let length = stream.get(at + 1..at + 3)?;
                let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
                at += 1 + length;
                // Only a scan's data may hold anything but markers; elsewhere the next one follows.
                if marker != START_OF_SCAN && *stream.get(at)? != ESCAPE {
                    return Some(false);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_is_that_of_the_first_frame() {
        // Start, an application segment with a frame in it, tables, a frame of 5x7 pixels.
        let whole = [
            0xff, 0xd8, 0xff, 0xe1, 0, 6, 0xff, 0xc0, 0, 9, 0xff, 0xc4, 0, 3, 1, 0xff, 0xc2, 0, 8,
            8, 0, 5, 0, 7, 3,
        ];
        let size = |bytes: &[u8]| size(&mut std::io::Cursor::new(bytes));
        assert_eq!(size(&whole), Some((5, 7)));
        for length in 0..whole.len() - 1 {
            assert_eq!(size(&whole[..length]), None, "{length}");
        }
    }

    #[test]
    fn only_a_stream_with_its_end_is_whole() {
        // Start, an application segment that holds a thumbnail's end, a scan with a stuffed zero and a
        // restart, end.
        let whole = [
            0xff, 0xd8, 0xff, 0xe1, 0, 6, 0xff, 0xd8, 0xff, 0xd9, 0xff, 0xda, 0, 3, 1, 7, 0xff, 0,
            8, 0xff, 0xd0, 9, 0xff, 0xd9,
        ];
        assert!(is_whole(&whole));
        assert!(is_whole(&[&whole[..], &[0xff, 0, 1, 2]].concat()));
        for length in 0..whole.len() {
            assert!(!is_whole(&whole[..length]), "{length}");
        }
        // After a segment something else than a marker.
        assert!(!is_whole(&[0xff, 0xd8, 0xff, 0xe1, 0, 3, 1, 7, 0xff, 0xd9]));
    }
}
