#!/bin/sh
# Where an order is: {"order_id": "QX-5512"} on stdin, its status on stdout.
order=$(sed -n 's/.*"order_id" *: *"\([^"\\]*\)".*/\1/p')
case $order in
  "") echo '{"error": "no order given"}' ;;
  *[02468]) echo '{"status": "shipped", "city": "Marseille"}' ;;
  *) echo '{"status": "packed", "city": "Porto"}' ;;
esac
