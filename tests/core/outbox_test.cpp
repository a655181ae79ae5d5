#include <arke/core/outbox.hpp>

#include <array>
#include <cstddef>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "tests/support/catch.hpp"

using namespace arke;
using core::outbox;
using core::segment;

namespace {

shared_frame_ptr shared(std::string_view text) {
    shared_frame_ptr frame{new shared_frame{text.size()}};
    std::memcpy(frame->data(), text.data(), text.size());
    return frame;
}

std::vector<segment> pieces(const outbox& box, std::size_t most = 64) {
    std::vector<segment> out(most);
    out.resize(box.peek(out));
    return out;
}

/// All that waits, joined.
std::string content(const outbox& box) {
    std::string out;
    for (const auto piece : pieces(box, 4096)) out += piece;
    CHECK(out.size() == box.size());
    CHECK(out.empty() == box.empty());
    return out;
}

}  // namespace

TEST_CASE("an outbox keeps the order of copies, views and shared frames") {
    outbox box;
    const std::string view = "view ";
    CHECK(box.empty());
    box.add_copy("copy ");
    box.add_view(view);
    box.add_copy("copy again ");
    box.add_shared(shared("shared "));
    box.add_shared(shared("shared"));
    box.add_copy("");
    box.add_view("");
    box.add_shared(shared(""));
    CHECK(content(box) == "copy view copy again shared shared");
}

TEST_CASE("small copies stand together") {
    outbox box;
    for (int n = 0; n != 20; ++n) box.add_copy("0123456789");
    CHECK(pieces(box).size() == 1);
    for (int n = 0; n != 20; ++n) box.add_copy("0123456789");
    CHECK(pieces(box).size() == 2);
    CHECK(content(box).size() == 400);
}

TEST_CASE("a copy does not go into the memory of a shared frame or a view") {
    outbox box;
    std::string view = "view";
    auto frame = shared("frame");
    box.add_view(view);
    box.add_copy("1");
    box.add_shared(frame);
    box.add_copy("2");
    CHECK(content(box) == "view1frame2");
    CHECK(view == "view");
    CHECK(frame->view() == "frame");
}

TEST_CASE("shared frames are not copied, however many wait for them") {
    const auto frame = shared(std::string(10'000, 'x'));
    std::vector<outbox> boxes(50);
    for (auto& box : boxes) {
        box.add_shared(frame);
        box.own();
        CHECK(pieces(box).front().data() == frame->view().data());
    }
    CHECK(frame->use_count() == 51);
    boxes[0].consume(9'999);
    CHECK(frame->use_count() == 51);
    boxes[0].consume(1);
    CHECK(frame->use_count() == 50);
    boxes.clear();
    CHECK(frame->use_count() == 1);
}

TEST_CASE("what is sent leaves, at each byte") {
    const std::string view = "four five ";
    const std::string all = "one two three four five six seven eight";
    for (std::size_t first = 0; first <= all.size(); ++first) {
        for (std::size_t second = 0; first + second <= all.size(); ++second) {
            outbox box;
            box.add_copy("one ");
            box.add_copy("two ");
            box.add_shared(shared("three "));
            box.add_view(view);
            box.add_copy("six seven ");
            box.add_shared(shared("eight"));
            box.consume(first);
            box.consume(second);
            REQUIRE(content(box) == all.substr(first + second));
            box.add_copy("more");
            box.own();
            REQUIRE(content(box) == all.substr(first + second) + "more");
        }
    }
}

TEST_CASE("peek() fills what it is given") {
    outbox box;
    for (int n = 0; n != 5; ++n) box.add_shared(shared(std::to_string(n)));
    CHECK(pieces(box, 0).empty());
    CHECK(pieces(box, 3) == std::vector<segment>{"0", "1", "2"});
    CHECK(pieces(box, 9).size() == 5);
}

TEST_CASE("own() copies the views that are left, and those only") {
    std::string memory = "gone soon";
    const auto frame = shared("shared ");
    outbox box;
    box.add_copy("copy ");
    const auto* const copied_at = pieces(box).front().data();
    box.add_shared(frame);
    box.add_view(memory);
    box.consume(2);
    box.own();
    memory.assign(memory.size(), '?');
    CHECK(content(box) == "py shared gone soon");
    CHECK(pieces(box)[0].data() == copied_at + 2);
    CHECK(pieces(box)[1].data() == frame->view().data());
    box.own();
    CHECK(content(box) == "py shared gone soon");
}

TEST_CASE("own() of a view that is partly sent copies the rest") {
    std::string memory = "0123456789";
    outbox box;
    box.add_view(memory);
    box.consume(4);
    box.own();
    memory.assign(memory.size(), '?');
    CHECK(content(box) == "456789");
}

TEST_CASE("a long stream through an outbox stays in order") {
    std::mt19937 random{11};
    outbox box;
    std::string expected;
    unsigned char next = 0;
    for (int n = 0; n != 20'000; ++n) {
        std::string bytes(random() % 40, ' ');
        for (auto& c : bytes) c = static_cast<char>(next++);
        expected += bytes;
        switch (random() % 3) {
            case 0: box.add_copy(bytes); break;
            case 1: box.add_shared(shared(bytes)); break;
            default:
                box.add_view(bytes);
                box.own();
                break;
        }
        if (random() % 3 == 0) {
            const auto sent = random() % (box.size() + 1);
            box.consume(sent);
            expected.erase(0, sent);
        }
        if (n % 500 == 0) REQUIRE(content(box) == expected);
    }
    REQUIRE(content(box) == expected);
}
