#!/bin/sh
# The weather of a city, made up but always the same: {"city": "Oslo"} on stdin, a report on stdout.
city=$(sed -n 's/.*"city" *: *"\([^"\\]*\)".*/\1/p')
case $city in
  "") echo '{"error": "no city given"}' ;;
  Reykjavik) echo '{"temp": 7, "sky": "light rain"}' ;;
  Oslo) echo '{"temp": -3, "sky": "snow"}' ;;
  Nairobi) echo '{"temp": 24, "sky": "sunny"}' ;;
  *)
    number=$(printf '%s' "$city" | cksum | cut -d ' ' -f 1)
    case $((number % 3)) in 0) sky=sunny ;; 1) sky=cloudy ;; *) sky=rain ;; esac
    echo "{\"temp\": $((number / 3 % 30)), \"sky\": \"$sky\"}"
    ;;
esac
