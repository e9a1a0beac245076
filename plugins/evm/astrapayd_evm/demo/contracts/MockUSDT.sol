// SPDX-License-Identifier: MIT
pragma solidity 0.8.28;

/// @title MockUSDT: a token for `astrapayd demo` and the tests. It is worth nothing and must never be deployed on a real chain.
/// @notice Behaves like the USDT contract on Ethereum where that matters to whoever watches payments:
///   - 6 decimals;
///   - `transfer`, `transferFrom` and `approve` return NOTHING. An ABI that expects `bool` (EIP-20) fails to decode them;
///   - a transfer of zero is allowed and emits a Transfer event, which is how address poisoning looks on chain;
///   - only the owner can make new tokens.
/// `batchTransfer` does not exist in USDT. It stands for payout contracts (exchanges, Disperse): one transaction, several logs.
contract MockUSDT {
    string public constant name = "Mock Tether USD (worthless, for tests)";
    string public constant symbol = "USDT";
    uint8 public constant decimals = 6;

    address public immutable owner;
    uint256 public totalSupply;
    mapping(address account => uint256 amount) public balanceOf;
    mapping(address account => mapping(address spender => uint256 amount)) public allowance;

    event Transfer(address indexed from, address indexed to, uint256 value);
    event Approval(address indexed owner, address indexed spender, uint256 value);

    error NotOwner();
    error InsufficientBalance();
    error InsufficientAllowance();
    error LengthsDiffer();

    /// @param initialSupply base units (one millionth of a token) given to the deployer
    constructor(uint256 initialSupply) {
        owner = msg.sender;
        _mint(msg.sender, initialSupply);
    }

    function transfer(address to, uint256 value) external {
        _move(msg.sender, to, value);
    }

    function transferFrom(address from, address to, uint256 value) external {
        uint256 allowed = allowance[from][msg.sender];
        if (allowed < value) revert InsufficientAllowance();
        // As in USDT: an allowance of the largest number is never used up.
        if (allowed != type(uint256).max) allowance[from][msg.sender] = allowed - value;
        _move(from, to, value);
    }

    function approve(address spender, uint256 value) external {
        allowance[msg.sender][spender] = value;
        emit Approval(msg.sender, spender, value);
    }

    /// @notice Pays several recipients in one transaction, one Transfer event each, in the order given.
    function batchTransfer(address[] calldata recipients, uint256[] calldata values) external {
        if (recipients.length != values.length) revert LengthsDiffer();
        for (uint256 i = 0; i < recipients.length; ++i) {
            _move(msg.sender, recipients[i], values[i]);
        }
    }

    /// @notice New tokens for `to`; only for the owner.
    function mint(address to, uint256 value) external {
        if (msg.sender != owner) revert NotOwner();
        _mint(to, value);
    }

    function _mint(address to, uint256 value) private {
        totalSupply += value;
        unchecked {
            balanceOf[to] += value; // cannot overflow: no balance exceeds totalSupply
        }
        emit Transfer(address(0), to, value);
    }

    function _move(address from, address to, uint256 value) private {
        uint256 balance = balanceOf[from];
        if (balance < value) revert InsufficientBalance();
        unchecked {
            balanceOf[from] = balance - value;
            balanceOf[to] += value;
        }
        emit Transfer(from, to, value);
    }
}
