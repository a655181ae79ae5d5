#pragma once

#include <arke/wire/body.hpp>
#include <arke/wire/handshake.ipp>

#include <algorithm>

namespace arke::wire {

ARKE_COLD_INLINE http_refusal refusal_of(body_fault fault) {
    switch (fault) {
        case body_fault::too_large: return refuse_http(413, "The body of the request is larger than may be.");
        case body_fault::bad_chunk: return refuse_http(400, "The body is not in chunks as its Transfer-Encoding says.");
        case body_fault::bad_trailer: return refuse_http(400, "What follows the last chunk is no header.");
        case body_fault::overhead:
            return refuse_http(400, "The chunks of the body have too many extensions or trailers.");
    }
    return refuse_http(400, "The body of the request is malformed.");
}

ARKE_COLD_INLINE body_reader::body_reader(std::optional<std::uint64_t> length, std::size_t most)
    : left_{length.value_or(0)}, most_{most}, at_{length ? at::data : at::size} {
    if (!length) return;
    if (*length > most_)
        refuse(body_fault::too_large);
    else if (*length == 0)
        at_ = at::complete;
}

ARKE_COLD_INLINE body_reader::result body_reader::state() const noexcept {
    return at_ == at::complete ? result::complete : at_ == at::refused ? result::refused : result::more;
}

ARKE_COLD_INLINE void body_reader::refuse(body_fault why) noexcept {
    at_ = at::refused;
    fault_ = why;
}

ARKE_COLD_INLINE void body_reader::begin_chunk() noexcept {
    digits_ = 0;
    if (left_ == 0)
        at_ = at::trailer_start;
    else if (left_ > most_ - text_.size())
        refuse(body_fault::too_large);
    else
        at_ = at::chunk;
}

ARKE_COLD_INLINE void body_reader::take_byte(unsigned char byte) noexcept {
    // Sizes, their ends and the chunks themselves are bounded by the body; the rest is counted here.
    const auto count = [this] {
        if (++overhead_ > max_overhead) refuse(body_fault::overhead);
    };
    switch (at_) {
        case at::size:
            if (const int digit = detail::hex_digit(static_cast<char>(byte)); digit >= 0) {
                if (++digits_ > 16) return refuse(body_fault::bad_chunk);
                left_ = left_ << 4U | static_cast<unsigned>(digit);
                // Zeros in front would make a size as long as anybody likes.
            } else if (digits_ == 0) {
                refuse(body_fault::bad_chunk);
            } else if (byte == ';') {
                at_ = at::extension;
            } else if (byte == '\r') {
                at_ = at::size_end;
            } else {
                refuse(body_fault::bad_chunk);
            }
            return;
        case at::extension:
            if (byte == '\r')
                at_ = at::size_end;
            else if (!detail::is_value_byte(byte))
                refuse(body_fault::bad_chunk);
            else
                count();
            return;
        case at::size_end: return byte == '\n' ? begin_chunk() : refuse(body_fault::bad_chunk);
        case at::chunk_end:
            if (byte != '\r') return refuse(body_fault::bad_chunk);
            at_ = at::chunk_end_lf;
            return;
        case at::chunk_end_lf:
            if (byte != '\n') return refuse(body_fault::bad_chunk);
            at_ = at::size;
            return;
        case at::trailer_start:
            if (byte == '\r') {
                at_ = at::last_lf;
                return;
            }
            if (!detail::token_bytes[byte]) return refuse(body_fault::bad_trailer);
            at_ = at::trailer_name;
            return count();
        case at::trailer_name:
            if (byte == ':')
                at_ = at::trailer_value;
            else if (!detail::token_bytes[byte])
                return refuse(body_fault::bad_trailer);
            return count();
        case at::trailer_value:
            if (byte == '\r')
                at_ = at::trailer_end;
            else if (!detail::is_value_byte(byte))
                return refuse(body_fault::bad_trailer);
            return count();
        case at::trailer_end:
            if (byte != '\n') return refuse(body_fault::bad_trailer);
            at_ = at::trailer_start;
            return count();
        case at::last_lf:
            if (byte != '\n') return refuse(body_fault::bad_trailer);
            at_ = at::complete;
            return;
        case at::data:
        case at::chunk:
        case at::complete:
        case at::refused: return;
    }
}

ARKE_COLD_INLINE body_reader::result body_reader::feed(std::string_view bytes) {
    consumed_ = 0;
    while (at_ < at::complete && consumed_ != bytes.size()) {
        if (at_ != at::data && at_ != at::chunk) {
            take_byte(static_cast<unsigned char>(bytes[consumed_++]));
            continue;
        }
        const auto part =
            bytes.substr(consumed_, static_cast<std::size_t>(std::min<std::uint64_t>(left_, bytes.size())));
        text_ += part;
        consumed_ += part.size();
        left_ -= part.size();
        if (left_ == 0) at_ = at_ == at::data ? at::complete : at::chunk_end;
    }
    return state();
}

}  // namespace arke::wire
