#include <arke/wire/mask_source.hpp>

#include <array>
#include <cstdint>
#include <cstring>
#include <set>
#include <string>

#include <arke/wire/frame.hpp>

#include "tests/support/catch.hpp"

namespace wire = arke::wire;

TEST_CASE("the block is that of RFC 8439, section 2.3.2") {
    const std::array<std::uint32_t, 16> state{0x61707865, 0x3320646e, 0x79622d32, 0x6b206574, 0x03020100, 0x07060504,
                                              0x0b0a0908, 0x0f0e0d0c, 0x13121110, 0x17161514, 0x1b1a1918, 0x1f1e1d1c,
                                              0x00000001, 0x09000000, 0x4a000000, 0x00000000};
    const std::array<std::uint32_t, 16> block{0xe4e7f110, 0x15593bd1, 0x1fdd0f50, 0xc47120a3, 0xc7f4d1c7, 0x0368c033,
                                              0x9aaa2204, 0x4e6cd4c3, 0x466482d2, 0x09aa9f07, 0x05d7c214, 0xa2028bd9,
                                              0xd19c12b5, 0xb94e16de, 0xe883d0cb, 0x4e3c50a2};
    CHECK(wire::chacha20_block(state) == block);
}

TEST_CASE("a secret makes the same keys again, another secret others, and none comes twice in a while") {
    wire::mask_source one{{1, 2, 3, 4, 5, 6, 7, 8}};
    wire::mask_source same{{1, 2, 3, 4, 5, 6, 7, 8}};
    wire::mask_source other{{1, 2, 3, 4, 5, 6, 7, 9}};
    std::set<std::uint32_t> keys;
    int agree = 0;
    for (int i = 0; i != 1000; ++i) {
        const auto key = one.next();
        keys.insert(key);
        CHECK(key == same.next());
        agree += key == other.next() ? 1 : 0;
    }
    CHECK(keys.size() == 1000);
    CHECK(agree == 0);
}

TEST_CASE("a server's frame becomes a client's where it stands, at each size around the three forms of length") {
    for (const std::size_t size : {0U, 1U, 3U, 4U, 5U, 125U, 126U, 127U, 65'535U, 65'536U}) {
        const std::string payload(size, 'x');
        const auto header = wire::frame_header_size(size);
        std::string frame(wire::mask_size + header + size, '\0');
        char* const body = wire::write_frame_header(frame.data() + wire::mask_size, wire::opcode::binary, size);
        std::memcpy(body, payload.data(), size);
        std::uint32_t key = 0;
        std::memcpy(&key, "\x37\xFA\x21\x3D", 4);
        wire::mask_frame(frame.data(), header, size, key);
        CHECK(static_cast<unsigned char>(frame[0]) == 0x82);
        CHECK((static_cast<unsigned char>(frame[1]) & 0x80U) != 0);
        CHECK(frame.substr(header, 4) == "\x37\xFA\x21\x3D");
        struct {
            std::string heard;
            bool on_message(bool, std::string_view data) {
                heard = data;
                return true;
            }
            bool on_control(wire::opcode, std::string_view) { return false; }
        } sink;
        wire::frame_reader reader;
        CHECK_FALSE(reader.read({frame.data(), frame.size()}, {std::size_t{1} << 20U, 16}, sink));
        CHECK(sink.heard == payload);
    }
}
