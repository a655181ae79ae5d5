// Events with types: the parameter of a handler says what it wants, and gets it or an error report.
//
//     typed_events PORT

#include <arke/arke.hpp>

#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <string>
#include <vector>

struct order {
    std::string item;
    int count;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(order, item, count)

struct receipt {
    std::string item;
    double total;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(receipt, item, total)

// What the program knows of a client, for as long as it is connected.
struct customer {
    double spent = 0;
};

int main(int argc, char** argv) {
    const int port = argc > 1 ? std::atoi(argv[1]) : 8080;

    arke::basic_server<customer> server{{.endpoint = "/"}};
    using connection = arke::basic_connection<customer>;

    // Registered once for everybody; what the browser sends with ws.Emit("buy", {item: "tea", count: 6}).
    server.on("buy", [](connection& c, const order& o) {
        const receipt r{o.item, o.count * 7.0};
        c.session().spent += r.total;
        c.emit("receipt", r);
    });
    server.on("spent", [](connection& c) { c.emit("spent", c.session().spent); });
    server.on("add", [](arke::connection& c, const std::vector<int>& numbers) {
        std::int64_t sum = 0;  // an int would overflow: clients choose the numbers
        for (const int n : numbers) sum += n;
        c.emit("sum", sum);
    });
    server.on("enough", [](arke::connection& c, bool yes) {
        if (yes) c.disconnect(arke::close_code::normal, "as you wish");
    });
    server.on_error([](arke::connection& c, const arke::error_report& e) { c.emit("problem", e.detail); });

    server.listen("127.0.0.1", port);
    std::cout << "ws://localhost:" << server.port() << "/" << std::endl;
    server.run();
}
